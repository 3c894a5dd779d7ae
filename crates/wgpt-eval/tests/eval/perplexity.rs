//! Perplexity by every protocol against transformers' figures (tools/export_nll.py), and
//! the behaviour of an evaluation while it runs.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use wgpt::{DType, Engine, Error, Gpu, GpuOptions, ModelFiles, ModelOptions, Tokenizer};
use wgpt_eval::perplexity::{
    BosChoice, Document, Evaluation, PerplexityOptions, PerplexityProgress, PerplexityReport, Protocol,
    Split, TokenRecord, dominating, evaluate,
};

use crate::support::models::repository;

/// Relative tolerance for means over hundreds of tokens in f32. Seen: below 2e-6.
const TOLERANCE: f64 = 1e-4;

fn engine(dir: &str, dtype: DType) -> Engine {
    let gpu = Arc::new(Gpu::open(&GpuOptions::default()).unwrap());
    let options = ModelOptions { dtype, kv_dtype: dtype, ..ModelOptions::default() };
    let files = ModelFiles::open(&repository(dir)).unwrap();
    Engine::load(files, gpu, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn excerpt() -> String {
    std::fs::read_to_string(repository("tests/golden/demo-excerpt.txt")).unwrap()
}

/// Returns a tokenizer whose token b is byte b, in the alphabet of byte-level BPE without
/// merges.
fn byte_tokenizer() -> Tokenizer {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    let vocab: serde_json::Map<String, Value> = (0..=255_u8)
        .map(|byte| {
            let code = if printable(byte) { u32::from(byte) } else { others.next().unwrap() };
            (char::from_u32(code).unwrap().to_string(), byte.into())
        })
        .collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false });
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    Tokenizer::from_bytes("bytes", file.to_string().as_bytes()).unwrap()
}

/// Returns the excerpt in the form that a protocol needs: one stream, or its stories.
fn documents(tokenizer: &Tokenizer, protocol: Protocol, n_bytes: usize) -> Vec<Document> {
    let text = &excerpt()[..n_bytes];
    let split = if protocol.is_stream() { Split::File } else { Split::Separator("<|endoftext|>".into()) };
    split.apply(text).iter().map(|text| Document::new(tokenizer, "excerpt", text).unwrap()).collect()
}

fn quiet(_: PerplexityProgress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn near(found: Option<f64>, expected: &Value, what: &str) {
    let (found, expected) = (found.unwrap(), expected.as_f64().unwrap());
    assert!((found / expected - 1.0).abs() < TOLERANCE, "{what}: {found}, not {expected}");
}

/// Compares the report's figures with those of the golden case.
fn compare(report: &PerplexityReport, case: &Value) {
    assert_eq!(report.tokens_scored, case["tokens_scored"], "{case}");
    assert!(report.complete, "{report:?}");
    near(report.nll, &case["nll"], "nll");
    near(report.nll_stderr, &case["nll_stderr"], "nll_stderr");
    near(report.perplexity_stderr, &case["perplexity_stderr"], "perplexity_stderr");
    // exp turns the mean's absolute error into a relative one.
    near(report.perplexity.map(f64::ln), &case["nll"], "perplexity");
    if report.protocol == Protocol::LmEval {
        assert_eq!(report.bytes_scored.unwrap(), case["bytes_scored"]);
        assert_eq!(report.words_scored.unwrap(), case["words_scored"]);
        near(report.bits_per_byte, &case["bits_per_byte"], "bits_per_byte");
        near(report.byte_perplexity, &case["byte_perplexity"], "byte_perplexity");
        near(
            report.word_perplexity.map(f64::ln),
            &json!(case["word_perplexity"].as_f64().unwrap().ln()),
            "words",
        );
    }
}

/// Compares the sums of the first windows, and the first tokens one by one.
fn compare_tokens(tokens: &[TokenRecord], case: &Value) {
    let mut rest = tokens;
    for window in case["windows"].as_array().unwrap() {
        let (some, others) = rest.split_at(window["tokens"].as_u64().unwrap() as usize);
        let sum: f64 = some.iter().map(TokenRecord::nll).sum();
        near(Some(sum), &window["nll_sum"], "window");
        rest = others;
    }
    for (token, expected) in tokens.iter().zip(case["first_nlls"].as_array().unwrap()) {
        // Absolute, because single values may be near 0.
        assert!((token.nll() - expected.as_f64().unwrap()).abs() < 1e-3, "{token:?}, not {expected}");
    }
}

fn golden(model: &str, dir: &str, tokenizer: &Tokenizer) {
    let golden = std::fs::read(repository("tests/golden/perplexity.json")).unwrap();
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let engine = engine(dir, DType::F32);
    let cases = golden["models"][model]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 11);
    let mut worst = 0.0_f64;
    for case in cases {
        let protocol: Protocol = case["protocol"].as_str().unwrap().parse().unwrap();
        let documents =
            documents(tokenizer, protocol, golden["models"][model]["n_bytes"].as_u64().unwrap() as usize);
        let n_tokens: usize = documents.iter().map(|document| document.tokens.len()).sum();
        if protocol.is_stream() {
            assert_eq!(n_tokens, golden["models"][model]["n_tokens"].as_u64().unwrap() as usize);
        }
        let bos = match (protocol, case["bos"].is_null()) {
            (Protocol::Llama, true) => BosChoice::Never,
            (Protocol::Llama, false) => BosChoice::Always,
            _ => BosChoice::Auto,
        };
        let mut options = PerplexityOptions {
            protocol,
            context: case["context"].as_u64().map(|n| n as usize),
            stride: case["stride"].as_u64().filter(|_| protocol == Protocol::Hf).map(|n| n as usize),
            bos,
            ..PerplexityOptions::default()
        };
        let found = evaluate(&engine, &documents, &options, &mut quiet).unwrap();
        compare(&found.report, case);
        assert_eq!((found.tokens.len(), found.report.bos_token.is_none()), (0, case["bos"].is_null()));
        worst = worst.max((found.report.nll.unwrap() / case["nll"].as_f64().unwrap() - 1.0).abs());

        // Token by token, for a part of the windows: the same sums, from other kernels.
        let n_windows = case["windows"].as_array().unwrap().len();
        options = PerplexityOptions { tokens: true, limit: Some(n_windows.min(8)), ..options };
        let Evaluation { report, tokens } = evaluate(&engine, &documents, &options, &mut quiet).unwrap();
        assert_eq!(report.tokens_scored, tokens.len() as u64);
        compare_tokens(&tokens, case);
        for record in &tokens {
            assert_eq!(record.token, documents[record.document].tokens[record.index]);
            assert_eq!(record.rank == 0, record.best == record.token);
            assert!(record.best_logprob >= record.logprob && record.position < report.context + 1);
        }
    }
    println!("{model}: largest relative error {worst:e}");
}

#[test]
fn every_protocol_equals_transformers_with_the_demo_model() {
    golden("demo", "weights", &Tokenizer::from_file(repository("weights/tokenizer.json")).unwrap());
}

#[test]
fn every_protocol_equals_transformers_with_gpt2_tiny() {
    golden("gpt2-tiny", "tests/golden/gpt2-tiny", &byte_tokenizer());
}

/// Uses the library, where a signal can come at any moment.
#[test]
fn a_cancelled_evaluation_reports_what_it_scored() {
    let engine = engine("weights", DType::F16);
    let documents = [Document::from_tokens("ones", vec![1; 1200])];
    let flag = Arc::new(AtomicBool::new(false));
    // Windows of 512 tokens, each in its own batch.
    let options = || PerplexityOptions {
        batch_tokens: Some(1),
        cancel: Some(Arc::clone(&flag)),
        ..PerplexityOptions::default()
    };
    let mut seen = Vec::new();
    let found = evaluate(&engine, &documents, &options(), &mut |state| {
        seen.push((state.windows_done, state.tokens_done, state.n_tokens, state.perplexity.is_some()));
        flag.store(state.windows_done == 1, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let report = found.unwrap().report;
    assert_eq!(seen, [(0, 0, 1199, false), (1, 511, 1199, true)]);
    assert_eq!((report.tokens_scored, report.windows_scored, report.complete), (511, 1, false));
    let nothing = evaluate(&engine, &documents, &options(), &mut quiet);
    assert!(matches!(nothing, Err(Error::Cancelled)), "{nothing:?}");
    // The callback also ends the evaluation, after any window of a batch.
    flag.store(false, Ordering::Relaxed);
    let options = PerplexityOptions { batch_tokens: Some(2000), ..options() };
    let found = evaluate(&engine, &documents, &options, &mut |state| match state.windows_done {
        2 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    assert!(!found.unwrap().report.complete);
}

#[test]
fn figures_do_not_depend_on_the_batches() {
    let engine = engine("weights", DType::F32);
    let tokenizer = Tokenizer::from_file(repository("weights/tokenizer.json")).unwrap();
    for protocol in Protocol::ALL {
        let documents = documents(&tokenizer, protocol, excerpt().len());
        let nll = |batch_tokens| {
            let options = PerplexityOptions {
                protocol,
                context: Some(64),
                limit: Some(13),
                batch_tokens: Some(batch_tokens),
                ..PerplexityOptions::default()
            };
            evaluate(&engine, &documents, &options, &mut quiet).unwrap().report.nll.unwrap()
        };
        let (alone, together) = (nll(1), nll(4096));
        assert!((alone / together - 1.0).abs() < 1e-6, "{protocol}: {alone} {together}");
    }
}

#[test]
fn invalid_requests_are_refused() {
    let engine = engine("tests/golden/gpt2-tiny", DType::F16);
    let message = |n_tokens: usize, options: PerplexityOptions| {
        let documents = [Document::from_tokens("a.txt", vec![1; n_tokens])];
        evaluate(&engine, &documents, &options, &mut quiet).unwrap_err().to_string()
    };
    let with = |protocol| PerplexityOptions { protocol, ..PerplexityOptions::default() };
    let (hf, llama) = (with(Protocol::Hf), with(Protocol::Llama));
    for (n_tokens, options, parts) in [
        (1, hf.clone(), ["a.txt: the text has 1 token, ", "needs at least 2"]),
        (127, llama.clone(), ["a.txt: the text has 127 tokens, ", "a whole window of 128: give more text"]),
        (0, with(Protocol::Segments), ["a.txt: the text has 0 tokens", "at least 1"]),
        (
            9,
            PerplexityOptions { context: Some(129), ..hf.clone() },
            ["a window of 129 tokens", "takes 2 to 128"],
        ),
        (9, PerplexityOptions { context: Some(2), ..llama.clone() }, ["a window of 2 tokens", "takes 3"]),
        (
            9,
            PerplexityOptions { stride: Some(0), ..hf.clone() },
            ["stride 0", "expected 1 to 128, the length of the context"],
        ),
        (
            9,
            PerplexityOptions { stride: Some(129), ..hf.clone() },
            ["stride 129", "expected 1 to 128, the length of the context"],
        ),
        (
            9,
            PerplexityOptions { stride: Some(8), ..llama.clone() },
            ["only protocol hf takes a stride", "llama"],
        ),
        (9, PerplexityOptions { bos: BosChoice::Always, ..hf.clone() }, ["only with protocol llama", "hf"]),
        (9, PerplexityOptions { limit: Some(0), ..hf }, ["a limit of 0", "nothing"]),
    ] {
        let found = message(n_tokens, options);
        assert!(parts.iter().all(|part| found.contains(part)), "{parts:?}: {found}");
    }
    let none = evaluate(&engine, &[], &PerplexityOptions::default(), &mut quiet).unwrap_err();
    assert!(none.to_string().contains("no document"), "{none}");
    // One token less than a chunk: the begin-of-text token before it completes the chunk.
    let documents = [Document::from_tokens("a.txt", vec![1; 127])];
    let options = PerplexityOptions { bos: BosChoice::Always, ..llama };
    assert_eq!(evaluate(&engine, &documents, &options, &mut quiet).unwrap().report.tokens_scored, 63);
    assert!("nonsense".parse::<Protocol>().unwrap_err().to_string().contains("hf, llama, lm-eval, segments"));
}

#[test]
fn reports_survive_json_and_dominating_tokens_are_marked() {
    let engine = engine("weights", DType::F16);
    let tokenizer = Tokenizer::from_file(repository("weights/tokenizer.json")).unwrap();
    let documents = documents(&tokenizer, Protocol::LmEval, excerpt().len());
    let options = PerplexityOptions {
        protocol: Protocol::LmEval,
        limit: Some(2),
        tokens: true,
        ..PerplexityOptions::default()
    };
    let Evaluation { report, tokens } = evaluate(&engine, &documents, &options, &mut quiet).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.contains(r#""protocol":"lm-eval""#) && text.contains(r#""bos":"prefixed""#), "{text}");
    assert_eq!(serde_json::from_str::<PerplexityReport>(&text).unwrap().tokens_scored, report.tokens_scored);
    let marked = dominating(&tokens);
    let sum = |which: bool| {
        let chosen = tokens.iter().zip(&marked).filter(|(_, mark)| **mark == which);
        chosen.map(|(token, _)| token.nll()).sum::<f64>()
    };
    assert!(sum(true) >= sum(false) && marked.iter().filter(|mark| **mark).count() < tokens.len() / 3);
    let words: u64 = report.words_scored.unwrap();
    let expected: usize =
        documents[..2].iter().map(|d| d.extents.iter().map(|e| e.n_words as usize).sum::<usize>()).sum();
    assert_eq!(words, expected as u64);
}
