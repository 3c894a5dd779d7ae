//! Prompt-lookup decoding gives the tokens of plain greedy decoding, in fewer passes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use wgpt::{
    Engine, Error, FinishReason, GenerateOptions, Gpu, GpuOptions, LookupStats, ModelFiles, ModelOptions,
    Overflow, Piece, SamplingParams,
};

use crate::support::{GREEDY_BOUND, gap, open_gpu};
use crate::{load_files, tiny_files};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(open_gpu(GpuOptions::default())));

/// A prompt that the demo model keeps repeating.
const RED_BALL: &str = "Tom had a red ball. Tom had a red ball. Tom had a red ball. Tom had a";

const DRAFT_LENGTHS: [usize; 4] = [1, 2, 5, 15];

fn load(files: ModelFiles, deterministic: bool) -> Engine {
    let options = ModelOptions { deterministic, ..ModelOptions::default() };
    load_files(files, &GPU, &options)
}

fn tiny(deterministic: bool) -> Engine {
    load(tiny_files(), deterministic)
}

fn demo(deterministic: bool) -> Engine {
    load(ModelFiles::demo().unwrap(), deterministic)
}

fn greedy(prompt_lookup: Option<usize>, max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingParams::greedy(),
        max_new_tokens: Some(max_new_tokens),
        ignore_eos: true,
        prompt_lookup,
        ..GenerateOptions::default()
    }
}

/// Everything a caller sees of a generation.
#[derive(Debug, PartialEq)]
struct Run {
    pieces: Vec<Piece>,
    tokens: Vec<u32>,
    finish: Option<FinishReason>,
}

fn run(engine: &Engine, prompt: &[u32], options: &GenerateOptions) -> (Run, LookupStats) {
    let mut generation = engine.generate_tokens(prompt, options.clone()).unwrap();
    let pieces: Vec<Piece> = generation.by_ref().map(Result::unwrap).collect();
    let tokens = generation.tokens().to_vec();
    let found = Run { pieces, tokens, finish: generation.finish_reason() };
    (found, generation.timings().lookup.unwrap_or_default())
}

/// Generates plainly and with drafts of each length, and asserts equal pieces.
fn same_with_drafts(engine: &Engine, prompt: &[u32], options: &GenerateOptions) -> Run {
    let plain = run(engine, prompt, &GenerateOptions { prompt_lookup: None, ..options.clone() }).0;
    for draft_len in DRAFT_LENGTHS {
        let drafted = GenerateOptions { prompt_lookup: Some(draft_len), ..options.clone() };
        assert_eq!(run(engine, prompt, &drafted).0, plain, "drafts of {draft_len}");
    }
    plain
}

fn scattered(n: usize, vocab_size: usize, seed: u32) -> Vec<u32> {
    let hash = |i: u32| (i.wrapping_add(seed * 1000).wrapping_mul(2_654_435_769) >> 8) % vocab_size as u32;
    (0..n as u32).map(hash).collect()
}

/// Returns prompts that repeat themselves, that do not, and whose tokens are never
/// followed by the same token twice.
fn prompts(engine: &Engine) -> Vec<Vec<u32>> {
    let vocab_size = engine.vocab_size();
    let mut prompts = vec![
        vec![7],
        vec![5; 40],
        scattered(5, vocab_size, 1).repeat(8),
        scattered(11, vocab_size, 2).repeat(5),
        scattered(60, vocab_size, 3),
        (0..20).flat_map(|i| [9, 20 + i]).chain([9]).collect(),
        (0..20).flat_map(|i| [9, 8, 30 + 2 * i]).chain([9, 8]).collect(),
    ];
    if let Ok(tokenizer) = engine.tokenizer() {
        let texts = [
            "Once upon a time",
            RED_BALL,
            "The cat saw a dog. The cat saw a bird. The cat saw a fish. The cat",
            "Lily said, \"Hello, Ben!\" Ben said, \"Hello, Lily!\" Lily said,",
            "the big the small the red the old the sad the",
        ];
        prompts.extend(texts.map(|text| tokenizer.encode(text).unwrap()));
    }
    prompts
}

#[test]
fn deterministic_drafts_change_no_token() {
    let n = 40;
    for engine in [tiny(true), demo(true)] {
        let mut total = LookupStats::default();
        for prompt in prompts(&engine) {
            let plain = run(&engine, &prompt, &greedy(None, n)).0;
            assert_eq!(plain.tokens.len(), n);
            for draft_len in DRAFT_LENGTHS {
                let (found, stats) = run(&engine, &prompt, &greedy(Some(draft_len), n));
                assert_eq!(found, plain, "drafts of {draft_len} after {prompt:?}");
                assert!(stats.accepted <= stats.drafted && stats.drafted <= draft_len * stats.passes);
                // A pass gives one token more than it accepts.
                assert_eq!(stats.passes + stats.accepted, n, "{stats:?}");
                total.drafted += stats.drafted;
                total.accepted += stats.accepted;
            }
        }
        println!("accepted {} of {} drafted tokens", total.accepted, total.drafted);
    }
}

#[test]
fn drafts_change_only_tokens_with_close_logits() {
    let n = 40;
    let (mut compared, mut close) = (0, Vec::new());
    for engine in [tiny(false), demo(false)] {
        for prompt in prompts(&engine) {
            let plain = run(&engine, &prompt, &greedy(None, n)).0.tokens;
            for draft_len in DRAFT_LENGTHS {
                let (found, stats) = run(&engine, &prompt, &greedy(Some(draft_len), n));
                assert_eq!((found.tokens.len(), stats.passes + stats.accepted), (n, n));
                let Some(at) = (0..n).find(|&i| found.tokens[i] != plain[i]) else {
                    compared += n;
                    continue;
                };
                // After the first difference, the texts diverge.
                compared += at + 1;
                let mut session = engine.session();
                let logits = session.advance(&[&prompt, &plain[..at]].concat()).unwrap();
                let gap = gap(logits, found.tokens[at], plain[at]);
                assert!(gap.abs() < GREEDY_BOUND, "token {at} after {prompt:?}: gap {gap}");
                close.push((at, gap));
            }
        }
    }
    println!("{} of {compared} tokens differ, at gaps below {GREEDY_BOUND}: {close:?}", close.len());
    assert!(compared > 2000, "texts diverged early: {close:?}");
}

#[test]
fn a_repetitive_text_takes_fewer_passes() {
    for deterministic in [true, false] {
        let engine = demo(deterministic);
        let prompt = engine.tokenizer().unwrap().encode(RED_BALL).unwrap();
        let (_, stats) = run(&engine, &prompt, &greedy(Some(5), 60));
        println!("deterministic {deterministic}: {stats:?}");
        assert!(stats.accepted >= 20 && stats.passes <= 39, "{stats:?}");
    }
}

#[test]
fn wrong_drafts_cost_passes_but_no_token() {
    let engine = tiny(true);
    let mut refused = 0;
    for seed in 0..12 {
        let prompt = scattered(20, 1000, 50 + seed);
        let next = run(&engine, &prompt, &greedy(None, 2)).0.tokens;
        // The prompt starts with the token that the model will choose next, followed by a
        // token that the model does not continue with.
        let prompt = [&[next[0], (next[1] + 1) % 1000], &prompt[..]].concat();
        let plain = run(&engine, &prompt, &greedy(None, 3)).0;
        let (found, stats) = run(&engine, &prompt, &greedy(Some(15), 3));
        assert_eq!(found, plain);
        if stats.drafted > 0 && stats.accepted == 0 {
            assert_eq!(stats.passes, 3);
            refused += 1;
        }
    }
    println!("{refused} of 12 generations had all drafts refused");
    assert!(refused > 0);
}

#[test]
fn the_token_limit_cuts_an_accepted_run() {
    let engine = tiny(true);
    let prompt = scattered(5, 1000, 1).repeat(8);
    for n in [0, 1, 2, 3, 5, 8, 13, 21] {
        let plain = same_with_drafts(&engine, &prompt, &greedy(None, n));
        assert_eq!((plain.tokens.len(), plain.finish), (n, Some(FinishReason::Length)));
    }
}

#[test]
fn a_full_context_stops_or_slides_as_without_drafts() {
    let engine = tiny(true);
    for prompt in [vec![5; 100], scattered(10, 1000, 4).repeat(10), vec![5; 127], vec![5; 128]] {
        let options = GenerateOptions { max_new_tokens: None, ..greedy(None, 0) };
        let plain = same_with_drafts(&engine, &prompt, &options);
        // The last chosen token needs no position.
        assert_eq!((plain.tokens.len(), plain.finish), (129 - prompt.len(), Some(FinishReason::Length)));
        let options = GenerateOptions { overflow: Overflow::Slide, ..greedy(None, 80) };
        assert_eq!(same_with_drafts(&engine, &prompt, &options).tokens.len(), 80);
    }
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn a_stop_string_cuts_an_accepted_run() {
    let engine = demo(true);
    let prompt = engine.tokenizer().unwrap().encode(RED_BALL).unwrap();
    let (whole, stats) = run(&engine, &prompt, &greedy(Some(15), 40));
    assert!(stats.accepted > 0);
    let text: String = whole.pieces.iter().map(|piece| piece.text.as_str()).collect();
    let mut stopped = 0;
    for begin in (1..text.len().saturating_sub(6)).step_by(17) {
        let Some(stop) = text.get(begin..begin + 4) else { continue };
        let options = GenerateOptions { stop: vec![stop.to_owned()], ..greedy(None, 40) };
        let plain = same_with_drafts(&engine, &prompt, &options);
        assert_eq!(plain.finish, Some(FinishReason::StopString), "{stop:?}");
        stopped += 1;
    }
    assert!(stopped > 3, "{text:?}");
}

/// Loads the demo model with `eos` as its end token.
fn demo_with_eos(eos: u32) -> Engine {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(Path::new("weights").join(name), dir.path().join(name)).unwrap();
    }
    let config = format!("{{\"eos_token_id\": {eos}}}");
    std::fs::write(dir.path().join("generation_config.json"), config).unwrap();
    load(ModelFiles::open(dir.path()).unwrap(), true)
}

/// Returns the indices of tokens inside an accepted run: tokens that took no separate
/// pass and are not the last of their pass.
fn within_accepted_runs(engine: &Engine, prompt: &[u32], options: &GenerateOptions) -> Vec<usize> {
    let mut generation = engine.generate_tokens(prompt, options.clone()).unwrap();
    let mut passes = vec![0];
    while let Some(piece) = generation.next() {
        if piece.unwrap().token.is_some() {
            passes.push(generation.timings().lookup.unwrap().passes);
        }
    }
    (1..passes.len() - 1)
        .filter(|&i| passes[i - 1] == passes[i] && passes[i] == passes[i + 1])
        .map(|i| i - 1)
        .collect()
}

#[test]
fn an_end_token_cuts_an_accepted_run() {
    let engine = demo(true);
    let prompt = engine.tokenizer().unwrap().encode(RED_BALL).unwrap();
    let options = greedy(Some(15), 40);
    let whole = run(&engine, &prompt, &options).0.tokens;
    let within = within_accepted_runs(&engine, &prompt, &options);
    let first_time = within.into_iter().filter(|&at| !whole[..at].contains(&whole[at]));
    let mut cut = Vec::new();
    for at in first_time.take(3) {
        let options = GenerateOptions { ignore_eos: false, ..greedy(None, 40) };
        let plain = same_with_drafts(&demo_with_eos(whole[at]), &prompt, &options);
        assert_eq!((plain.finish, &plain.tokens[..]), (Some(FinishReason::Eos), &whole[..at]));
        cut.push(at);
    }
    println!("ended within an accepted run, after {cut:?} tokens");
    assert!(!cut.is_empty());
}

#[test]
fn the_cancel_flag_withholds_accepted_tokens() {
    let engine = tiny(true);
    let prompt = vec![5; 40];
    let plain = run(&engine, &prompt, &greedy(None, 40)).0;
    for n in [1, 2, 3, 7, 12, 19] {
        let flag = Arc::new(AtomicBool::new(false));
        let options = GenerateOptions { cancel: Some(Arc::clone(&flag)), ..greedy(Some(15), 40) };
        let mut generation = engine.generate_tokens(&prompt, options).unwrap();
        assert_eq!(generation.by_ref().take(n).filter(Result::is_ok).count(), n);
        flag.store(true, Ordering::Relaxed);
        assert!(generation.next().is_none());
        assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
        assert_eq!(generation.tokens(), &plain.tokens[..n]);
    }
}

#[test]
fn only_plain_greedy_decoding_accepts_drafts() {
    let engine = tiny(true);
    let penalised = SamplingParams { repetition_penalty: 1.1, ..SamplingParams::greedy() };
    for options in [
        GenerateOptions { sampling: SamplingParams::default(), ..greedy(Some(5), 5) },
        GenerateOptions { sampling: penalised, ..greedy(Some(5), 5) },
        GenerateOptions { logprobs: Some(0), ..greedy(Some(5), 5) },
    ] {
        let error = engine.generate_tokens(&[1], options).err().unwrap();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains("temperature 0"), "{error}");
    }
    for draft_len in [0, 16, usize::MAX] {
        let error = engine.generate_tokens(&[1], greedy(Some(draft_len), 5)).err().unwrap();
        assert!(error.to_string().contains("expected 1 to 15"), "{error}");
    }
    assert!(engine.generate_tokens(&[1], greedy(Some(15), 5)).is_ok());
    let plain = engine.generate_tokens(&[1], greedy(None, 5)).unwrap();
    assert_eq!(plain.timings().lookup, None);
}
