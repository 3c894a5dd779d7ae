//! Generations with steps encoded ahead and sampled on the GPU, against those sampled on
//! the CPU: the same tokens, the same ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use wgpt::internals::model::STEPS_AHEAD_MAX;
use wgpt::{
    Engine, Error, FinishReason, GenerateOptions, Gpu, GpuOptions, MemoryGroup, ModelFiles, ModelOptions,
    Overflow, SamplingParams,
};

use crate::support::open_gpu;
use crate::{load_files, tiny_files, tokens as prompt};

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(open_gpu(GpuOptions::default())));

fn load(files: ModelFiles, steps_ahead: usize, deterministic: bool) -> Engine {
    let options = ModelOptions { steps_ahead: Some(steps_ahead), deterministic, ..ModelOptions::default() };
    load_files(files, &GPU, &options)
}

fn tiny(steps_ahead: usize) -> Engine {
    load(tiny_files(), steps_ahead, false)
}

fn demo(steps_ahead: usize) -> Engine {
    load(ModelFiles::demo().unwrap(), steps_ahead, false)
}

fn sampled(seed: u64) -> SamplingParams {
    SamplingParams { seed: Some(seed), ..SamplingParams::default() }
}

fn options(sampling: SamplingParams, max_new_tokens: Option<usize>) -> GenerateOptions {
    GenerateOptions { sampling, max_new_tokens, ..GenerateOptions::default() }
}

/// Returns tokens, text, and the reason for the end.
fn run(engine: &Engine, prompt: &[u32], options: GenerateOptions) -> (Vec<u32>, String, FinishReason) {
    let mut generation = engine.generate_tokens(prompt, options).unwrap();
    let text: String = generation.by_ref().map(|piece| piece.unwrap().text).collect();
    (generation.tokens().to_vec(), text, generation.finish_reason().unwrap())
}

#[test]
fn tokens_match_the_sampler_on_the_cpu() {
    let engines: Vec<Engine> = [0, 1, 2, 5, STEPS_AHEAD_MAX].map(tiny).into();
    let params = [
        SamplingParams::greedy(),
        sampled(1),
        SamplingParams { top_k: 0, top_p: 1.0, ..sampled(2) },
        SamplingParams { top_k: 0, top_p: 0.9, min_p: 0.02, temperature: 1.5, ..sampled(3) },
        // The GPU's sampler has no penalties, so the CPU's is used.
        SamplingParams { repetition_penalty: 1.3, ..sampled(4) },
    ];
    for sampling in params {
        for (n_prompt, n_new) in [(1, 1), (3, 2), (17, 40), (100, 28), (128, 1)] {
            let go = |engine: &Engine| {
                let options = GenerateOptions { ignore_eos: true, ..options(sampling.clone(), Some(n_new)) };
                run(engine, &prompt(n_prompt), options)
            };
            let expected = go(&engines[0]);
            assert_eq!(expected.0.len(), n_new);
            for engine in &engines[1..] {
                assert_eq!(go(engine), expected, "{sampling:?}, prompt {n_prompt}");
            }
        }
    }
}

#[test]
fn deterministic_tokens_match_too() {
    let files = || tiny_files();
    let (plain, ahead) = (load(files(), 0, true), load(files(), 4, true));
    for sampling in [SamplingParams::greedy(), sampled(5)] {
        let go = |engine: &Engine| run(engine, &prompt(20), options(sampling.clone(), Some(50)));
        assert_eq!(go(&ahead), go(&plain));
    }
}

#[test]
fn texts_end_at_the_same_token_as_on_the_cpu() {
    let (plain, ahead) = (demo(0), demo(6));
    let story = plain.tokenizer().unwrap().encode("Once upon a time").unwrap();
    let mut ends = [0; 2];
    for seed in 0..12 {
        // The end is an end token or the token limit.
        let go = |engine: &Engine| run(engine, &story, options(sampled(seed), Some(180)));
        let expected = go(&plain);
        assert_eq!(go(&ahead), expected, "seed {seed}");
        ends[usize::from(expected.2 == FinishReason::Eos)] += 1;
    }
    assert!(ends[0] > 0 && ends[1] > 0, "both ends occur: {ends:?}");
    // A stop string discards the steps computed ahead.
    let stop = |engine: &Engine| {
        let options = GenerateOptions { stop: vec![".".into()], ..options(sampled(3), Some(100)) };
        run(engine, &story, options)
    };
    assert_eq!(stop(&ahead), stop(&plain));
    assert_eq!(stop(&ahead).2, FinishReason::StopString);
    assert_eq!(ahead.kv_pages().0, 0, "pages taken ahead are given back");
}

#[test]
fn a_full_context_stops_or_slides() {
    let (plain, ahead) = (tiny(0), tiny(7));
    for (overflow, most) in [(Overflow::Stop, None), (Overflow::Slide, Some(150))] {
        let go = |engine: &Engine| {
            let options = GenerateOptions { overflow, ignore_eos: true, ..options(sampled(6), most) };
            run(engine, &prompt(90), options)
        };
        assert_eq!(go(&ahead), go(&plain), "{overflow:?}");
    }
}

#[test]
fn generations_and_sessions_take_turns() {
    let (plain, ahead) = (tiny(0), tiny(3));
    let start = |engine: &Engine, seed: u64| {
        let options = GenerateOptions { ignore_eos: true, ..options(sampled(seed), Some(40)) };
        engine.generate_tokens(&prompt(5 + seed as usize), options).unwrap()
    };
    let expected: Vec<Vec<u32>> =
        (0..3).map(|seed| start(&plain, seed).filter_map(|piece| piece.unwrap().token).collect()).collect();
    let mut running: Vec<_> = (0..3).map(|seed| start(&ahead, seed)).collect();
    let mut found = vec![Vec::new(); 3];
    let mut session = ahead.session();
    for turn in 0.. {
        // Uneven turns: some find their state on the GPU, some do not.
        let i = [0, 0, 1, 2, 2, 2, 1][turn % 7];
        if let Some(piece) = running[i].next() {
            found[i].extend(piece.unwrap().token);
        }
        if turn % 5 == 0 {
            session.truncate(0);
            session.advance(&[7]).unwrap();
        }
        if found.iter().all(|tokens| tokens.len() == 40) {
            break;
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn generations_run_on_several_threads() {
    let (plain, ahead) = (tiny(0), tiny(3));
    let go = |engine: &Engine, seed: u64| {
        let options = GenerateOptions { ignore_eos: true, ..options(sampled(seed), Some(60)) };
        run(engine, &prompt(5 + seed as usize), options)
    };
    let expected: Vec<_> = (0..4).map(|seed| go(&plain, seed)).collect();
    std::thread::scope(|scope| {
        for (seed, expected) in expected.iter().enumerate() {
            let (ahead, go) = (&ahead, &go);
            // Each text finds other texts' steps between its own.
            scope.spawn(move || (0..5).for_each(|_| assert_eq!(&go(ahead, seed as u64), expected)));
        }
    });
}

/// The pool fills up during the text: running ahead stops, and every token that plain
/// decoding gives comes before the error.
#[test]
fn a_full_pool_loses_no_token() {
    // A binding of 256 KiB holds 64 pages of a layer, so four of them hold 256 pages.
    let gpu = GpuOptions { max_binding_bytes: Some(256 << 10), ..GpuOptions::default() };
    let gpu = Arc::new(open_gpu(gpu));
    let tokens_until_full = |steps_ahead: usize| {
        let model = ModelOptions { steps_ahead: Some(steps_ahead), ..ModelOptions::default() };
        let files = tiny_files();
        let proceed = &mut |_| std::ops::ControlFlow::Continue(());
        let engine = Engine::load(files, Arc::clone(&gpu), &model, proceed).unwrap();
        // 249 pages are held: 7 are left, for 112 positions.
        let _sessions: Vec<_> = [128; 31]
            .into_iter()
            .chain([1])
            .map(|n| {
                let mut session = engine.session();
                session.prefill(&prompt(n)).unwrap();
                session
            })
            .collect();
        let options = GenerateOptions { ignore_eos: true, ..options(sampled(2), Some(28)) };
        let mut tokens = Vec::new();
        for piece in engine.generate_tokens(&prompt(100), options).unwrap() {
            match piece {
                Ok(piece) => tokens.extend(piece.token),
                Err(error) => {
                    assert!(matches!(error, Error::Limits(_)), "{error}");
                    return tokens;
                }
            }
        }
        panic!("the pool did not fill up");
    };
    let expected = tokens_until_full(0);
    // The last of the 112 positions gives one more token.
    assert_eq!(expected.len(), 13);
    for steps_ahead in [1, 3, STEPS_AHEAD_MAX] {
        assert_eq!(tokens_until_full(steps_ahead), expected, "{steps_ahead}");
    }
}

#[test]
fn a_running_generation_creates_no_gpu_object() {
    // A separate device, because the other tests create objects on the shared one.
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let model = ModelOptions { steps_ahead: Some(4), ..ModelOptions::default() };
    let proceed = &mut |_| std::ops::ControlFlow::Continue(());
    let engine = Engine::load(ModelFiles::demo().unwrap(), gpu, &model, proceed).unwrap();
    for sampling in [SamplingParams::greedy(), sampled(8)] {
        let options = GenerateOptions { ignore_eos: true, ..options(sampling, Some(300)) };
        let mut generation = engine.generate("Once", options).unwrap();
        for _ in 0..20 {
            generation.next().unwrap().unwrap();
        }
        let before = engine.gpu().counters();
        for _ in 0..250 {
            generation.next().unwrap().unwrap();
        }
        assert_eq!(engine.gpu().counters(), before);
    }
}

#[test]
fn the_plan_includes_the_sampler_and_options_are_checked() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    for steps_ahead in [0, 1, STEPS_AHEAD_MAX] {
        let options = ModelOptions { steps_ahead: Some(steps_ahead), ..ModelOptions::default() };
        let proceed = &mut |_| std::ops::ControlFlow::Continue(());
        let engine = Engine::load(ModelFiles::demo().unwrap(), Arc::clone(&gpu), &options, proceed).unwrap();
        for group in MemoryGroup::ALL {
            assert_eq!(gpu.ledger().bytes(group), engine.memory_plan().group_bytes(group), "{group:?}");
        }
    }
    let options = ModelOptions { steps_ahead: Some(STEPS_AHEAD_MAX + 1), ..ModelOptions::default() };
    let load =
        Engine::load(
            ModelFiles::demo().unwrap(),
            gpu,
            &options,
            &mut |_| std::ops::ControlFlow::Continue(()),
        );
    assert!(matches!(load.err(), Some(Error::Input(_))));
}

#[test]
fn a_raised_flag_ends_the_text() {
    let engine = tiny(4);
    let flag = Arc::new(AtomicBool::new(false));
    let options = GenerateOptions { cancel: Some(Arc::clone(&flag)), ..options(sampled(1), Some(60)) };
    let mut generation = engine.generate_tokens(&prompt(4), options).unwrap();
    assert!(generation.next().unwrap().unwrap().token.is_some());
    flag.store(true, Ordering::Relaxed);
    assert_eq!(generation.by_ref().filter_map(|piece| piece.unwrap().token).count(), 0);
    assert_eq!(generation.finish_reason(), Some(FinishReason::Cancelled));
}
