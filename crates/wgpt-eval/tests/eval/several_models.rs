//! Several models at once, through the library: comparisons and training curves.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use safetensors::SafeTensors;
use wgpt::{
    CancelFlag, DType, Engine, Error, Gpu, GpuOptions, ModelFiles, ModelOptions, negative_log_likelihood,
};
use wgpt_eval::compare::{CompareOptions, CompareReport, check_same_tokens, compare, shared_tokens};
use wgpt_eval::curve::{
    CheckpointPath, CurveEvaluation, CurveOptions, CurveProgress, CurveStage, CurveTexts, evaluate,
};

use crate::support::models::repository;
use crate::support::reference_model::ReferenceModel;
use crate::support::{self};

/// The folder of gpt2-tiny.
static TINY: LazyLock<PathBuf> = LazyLock::new(|| repository("tests/golden/gpt2-tiny"));

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| Arc::new(support::open_gpu(GpuOptions::default())));

fn options(dtype: DType) -> ModelOptions {
    ModelOptions { dtype, kv_dtype: dtype, ..ModelOptions::default() }
}

fn load(files: ModelFiles, options: &ModelOptions) -> Engine {
    Engine::load(files, Arc::clone(&GPU), options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn tiny(options: &ModelOptions) -> Engine {
    load(ModelFiles::open(&TINY).unwrap(), options)
}

/// Returns random weights in the shape of gpt2-tiny.
fn random_files() -> ModelFiles {
    ModelFiles::random(ModelFiles::open(&TINY).unwrap().config().clone(), 5).unwrap()
}

/// Returns a row of golden tokens, and transformers' logits after each of them.
fn golden() -> (Vec<u32>, Vec<Vec<f64>>) {
    let bytes = std::fs::read(TINY.join("golden.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let words = |name: &str| -> Vec<[u8; 8]> {
        file.tensor(name).unwrap().data().chunks(8).map(|bytes| bytes.try_into().unwrap()).collect()
    };
    let tokens: Vec<u32> = words("input_ids")[..37].iter().map(|&b| i64::from_le_bytes(b) as u32).collect();
    let logits: Vec<f64> = words("logits_f64")[..37 * 1000].iter().map(|&b| f64::from_le_bytes(b)).collect();
    (tokens, logits.chunks(1000).map(<[f64]>::to_vec).collect())
}

/// Returns arbitrary tokens.
fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 13 + 5) % 1000).collect()
}

fn compared(a: &Engine, b: &Engine, tokens: &[u32], options: &CompareOptions) -> CompareReport {
    compare(a, b, tokens, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Converts logits to probabilities, directly.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|l| (l - max).exp()).sum();
    logits.iter().map(|l| (l - max).exp() / sum).collect()
}

fn argmax(values: &[f64]) -> usize {
    (0..values.len()).rev().max_by(|&i, &j| values[i].total_cmp(&values[j])).unwrap()
}

/// The figures that a report should give for rows of logits, each with its target.
struct Plain {
    nll: [f64; 2],
    kl: Vec<f64>,
    agreement: f64,
    rms: f64,
}

fn plain(rows: &[(Vec<f64>, Vec<f64>, u32)]) -> Plain {
    let n = rows.len() as f64;
    let mut found = Plain { nll: [0.0; 2], kl: Vec::new(), agreement: 0.0, rms: 0.0 };
    for (a, b, target) in rows {
        let (p, q, target) = (softmax(a), softmax(b), *target as usize);
        found.nll[0] -= p[target].ln() / n;
        found.nll[1] -= q[target].ln() / n;
        found.kl.push(p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum());
        found.agreement += f64::from(u8::from(argmax(&p) == argmax(&q))) / n;
        found.rms += (p[target] / q[target]).ln().powi(2) / n;
    }
    found.rms = found.rms.sqrt();
    found
}

/// Logits of the engine are within 2e-4 (tests/models/golden.rs): the divergence of two
/// distributions some nats apart changes by a small multiple of that.
fn assert_report(report: &CompareReport, plain: &Plain) {
    let close = |found: f64, expected: f64, name: &str| {
        let tolerance = 2e-4 * expected.abs().max(1.0);
        assert!((found - expected).abs() < tolerance, "{name}: {found}, not {expected}");
    };
    let n = plain.kl.len() as f64;
    let mean = plain.kl.iter().sum::<f64>() / n;
    let variance = plain.kl.iter().map(|kl| (kl - mean).powi(2)).sum::<f64>() / (n - 1.0);
    assert_eq!(report.tokens_scored, plain.kl.len() as u64);
    close(report.a.nll.mean, plain.nll[0], "NLL of A");
    close(report.b.nll.mean, plain.nll[1], "NLL of B");
    close(report.b.perplexity.ln(), plain.nll[1], "perplexity of B");
    close(report.nll_difference.mean, plain.nll[1] - plain.nll[0], "difference of NLL");
    close(report.kl.mean.mean, mean, "mean KL");
    close(report.kl.mean.standard_error, (variance / n).sqrt(), "its error");
    close(report.kl.max, plain.kl.iter().copied().fold(0.0, f64::max), "largest KL");
    close(report.logprob_rms_difference, plain.rms, "RMS");
    assert!((report.top1_agreement.mean - plain.agreement).abs() < 1e-12);
    let mut sorted = plain.kl.clone();
    sorted.sort_by(f64::total_cmp);
    let median = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    close(report.kl.quantiles[0].1, median, "median KL");
}

#[test]
fn figures_match_the_logits_of_transformers() {
    let (tokens, logits) = golden();
    let files = random_files();
    let reference = ReferenceModel::new(files.config(), files.checkpoint(), DType::F32, DType::F32);
    let others = reference.logits(&tokens);
    let rows: Vec<_> = (1..tokens.len())
        .map(|i| {
            let other = others[(i - 1) * 1000..][..1000].iter().map(|&x| f64::from(x)).collect();
            (logits[i - 1].clone(), other, tokens[i])
        })
        .collect();
    let (a, b) = (tiny(&options(DType::F32)), load(random_files(), &options(DType::F32)));
    let report =
        compared(&a, &b, &tokens, &CompareOptions { n_most_different: 5, ..CompareOptions::default() });
    let plain = plain(&rows);
    assert!(plain.kl.iter().sum::<f64>() > 36.0 * 0.5, "the models differ");
    assert_report(&report, &plain);
    assert_eq!((report.context, report.stride, report.complete), (128, 64, true));
    // The places that differ most, and the tokens there.
    let mut order: Vec<usize> = (0..plain.kl.len()).collect();
    order.sort_by(|&i, &j| plain.kl[j].total_cmp(&plain.kl[i]));
    for (found, &row) in report.most_different.iter().zip(&order) {
        assert_eq!((found.position, found.token), (row + 1, tokens[row + 1]));
        assert_eq!((found.best_a, found.best_b), (argmax(&rows[row].0) as u32, argmax(&rows[row].1) as u32));
        assert!((found.kl - plain.kl[row]).abs() < 2e-3, "{found:?}");
        assert!((found.logprob_a - softmax(&rows[row].0)[tokens[row + 1] as usize].ln()).abs() < 1e-3);
    }
    assert_eq!(report.most_different.len(), 5);
}

/// Windows of 16 tokens that move by 6: each token but the first is scored once, with the
/// context of its window.
#[test]
fn windows_follow_the_protocol() {
    let tokens = tokens(45);
    let (files_a, files_b) = (ModelFiles::open(&TINY).unwrap(), random_files());
    let logits = |files: &ModelFiles, window: &[u32]| {
        let model = ReferenceModel::new(files.config(), files.checkpoint(), DType::F32, DType::F32);
        let row = model.logits(window).split_off((window.len() - 1) * 1000);
        row.into_iter().map(f64::from).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    let (mut begin, mut scored) = (0, 1);
    while scored < tokens.len() {
        let end = (begin + 16).min(tokens.len());
        for i in scored..end {
            let window = &tokens[begin..i];
            rows.push((logits(&files_a, window), logits(&files_b, window), tokens[i]));
        }
        (begin, scored) = (begin + 6, end);
    }
    let short = ModelOptions { n_ctx: Some(16), ..options(DType::F32) };
    let (a, b) = (tiny(&short), load(files_b, &options(DType::F32)));
    let report = compared(&a, &b, &tokens, &CompareOptions { stride: Some(6), ..CompareOptions::default() });
    assert_eq!((report.context, report.stride, report.tokens_scored), (16, 6, 44));
    assert_report(&report, &plain(&rows));
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let (a, b) = (tiny(&ModelOptions::default()), tiny(&ModelOptions::default()));
    let report = compared(&a, &b, &tokens(300), &CompareOptions::default());
    assert_eq!((report.kl.mean.mean, report.kl.max, report.logprob_rms_difference), (0.0, 0.0, 0.0));
    assert_eq!((report.top1_agreement.mean, report.nll_difference.mean), (1.0, 0.0));
    assert_eq!(report.a, report.b);
    assert!(report.most_different.is_empty() && report.tokens_scored == 299);
}

/// Rounding to f16 changes the logits by less than 2e-2 (tests/models/golden.rs), and the
/// divergence by the square of that.
#[test]
fn half_precision_is_close() {
    let (a, b) = (tiny(&options(DType::F32)), tiny(&options(DType::F16)));
    let report = compared(&a, &b, &tokens(300), &CompareOptions::default());
    assert!(report.kl.mean.mean > 0.0 && report.kl.max < 4e-4, "{report:?}");
    assert!(report.kl.mean.mean < report.kl.max && report.kl.mean.standard_error > 0.0, "{report:?}");
    assert!(report.top1_agreement.mean > 0.95, "{report:?}");
    assert!(report.logprob_rms_difference < 2e-2, "{report:?}");
    let quantiles: Vec<f64> = report.kl.quantiles.iter().map(|(_, kl)| *kl).collect();
    assert!(quantiles.is_sorted() && quantiles[4] <= report.kl.max, "{quantiles:?}");
}

#[test]
fn different_vocabularies_are_refused() {
    let tiny = ModelFiles::open(&TINY).unwrap();
    let other = ModelFiles::open(&repository("tests/golden/gpt2-oddvocab")).unwrap();
    let error = check_same_tokens(&tiny, &other).unwrap_err().to_string();
    assert!(error.contains("gpt2-tiny has 1000 tokens, gpt2-oddvocab has 50257"), "{error}");
    let [a, b, c] =
        [["a", "b", "ab"], ["b", "a", "ab"], ["a", "b", "ab"]].map(|vocab| word_model(&vocab, ""));
    let open = |dir: &tempfile::TempDir| ModelFiles::open(dir.path()).unwrap();
    let error = check_same_tokens(&open(&a), &open(&b)).unwrap_err().to_string();
    assert!(error.starts_with("the tokenizers differ: id 0 is \"a\" in "), "{error}");
    assert_eq!(shared_tokens(&open(&a), &open(&c), "abba").unwrap(), [0, 1, 1, 0]);
    let merging = word_model(&["a", "b", "ab"], r#"["a", "b"]"#);
    let error = shared_tokens(&open(&a), &open(&merging), "baab").unwrap_err().to_string();
    assert!(
        error.ends_with("split the text differently from token 2 on: compare models with the same tokenizer"),
        "{error}"
    );
}

/// Returns a directory with gpt2-tiny and another tokenizer.
fn word_model(vocab: &[&str], merges: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(TINY.join(file), dir.path().join(file)).unwrap();
    }
    let vocab: serde_json::Map<String, serde_json::Value> =
        vocab.iter().enumerate().map(|(i, token)| ((*token).to_owned(), i.into())).collect();
    let tokenizer = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {{"type": "BPE", "vocab": {}, "merges": [{merges}]}}}}"#,
        serde_json::Value::from(vocab)
    );
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer).unwrap();
    dir
}

#[test]
fn a_cancelled_comparison_reports_what_it_scored() {
    let (a, b) = (tiny(&ModelOptions::default()), tiny(&ModelOptions::default()));
    let flag: CancelFlag = Arc::new(AtomicBool::new(false));
    let options = CompareOptions { cancel: Some(Arc::clone(&flag)), ..CompareOptions::default() };
    let mut states = Vec::new();
    let report = compare(&a, &b, &tokens(400), &options, &mut |state| {
        states.push((state.tokens_done, state.n_tokens, state.mean_kl));
        flag.store(true, Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_eq!(states, [(128, 400, Some(0.0))]);
    assert_eq!((report.tokens_scored, report.complete), (127, false));
    let nothing = compare(&a, &b, &tokens(400), &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(nothing, Err(Error::Cancelled)), "{nothing:?}");
    let stopped = compare(&a, &b, &tokens(400), &CompareOptions::default(), &mut |_| ControlFlow::Break(()));
    assert_eq!(stopped.unwrap().tokens_scored, 127);
}

#[test]
fn a_comparison_needs_two_tokens_and_a_stride_within_the_context() {
    let (a, b) = (tiny(&ModelOptions::default()), tiny(&ModelOptions::default()));
    let error = |tokens: &[u32], stride| {
        let options = CompareOptions { stride, ..CompareOptions::default() };
        compare(&a, &b, tokens, &options, &mut |_| ControlFlow::Continue(())).unwrap_err().to_string()
    };
    assert!(error(&[1], None).contains("the text has 1 token "));
    assert!(error(&[1, 2], Some(0)).contains("stride 0: expected 1 to 128, the length of the context"));
    assert!(error(&[1, 2], Some(129)).contains("stride 129"));
    assert!(error(&[1, 1000], None).contains("1000"));
}

/// A run of three steps: halved weights, gpt2-tiny, and gpt2-tiny again as a directory.
struct Run {
    dir: tempfile::TempDir,
}

impl Run {
    fn new() -> Run {
        let dir = tempfile::tempdir().unwrap();
        let last = dir.path().join("checkpoint-30");
        std::fs::create_dir(&last).unwrap();
        for dir in [dir.path(), &last] {
            std::fs::copy(TINY.join("config.json"), dir.join("config.json")).unwrap();
        }
        let weights = TINY.join("model.safetensors");
        std::fs::copy(&weights, last.join("model.safetensors")).unwrap();
        std::fs::copy(&weights, dir.path().join("checkpoint-20.safetensors")).unwrap();
        // With halved values, the first checkpoint is another model.
        let bytes = std::fs::read(&weights).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let halves: Vec<_> = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let values = view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()) / 2.0);
                (name, view.shape().to_vec(), values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>())
            })
            .collect();
        let views = halves.iter().map(|(name, shape, data)| {
            let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data);
            (name.clone(), view.unwrap())
        });
        let halves = safetensors::serialize(views, None).unwrap();
        std::fs::write(dir.path().join("checkpoint-10.safetensors"), halves).unwrap();
        Run { dir }
    }

    fn checkpoints(&self) -> Vec<CheckpointPath> {
        wgpt_eval::curve::find_checkpoints(self.dir.path(), None).unwrap().checkpoints
    }

    fn evaluate(
        &self,
        texts: CurveTexts<'_>,
        options: &CurveOptions,
        progress: &mut dyn FnMut(CurveProgress<'_>) -> ControlFlow<()>,
    ) -> Result<CurveEvaluation, Error> {
        evaluate(&self.checkpoints(), texts, &GPU, &ModelOptions::default(), options, progress)
    }
}

/// Returns the mean loss over one window that holds the whole text.
fn loss(files: ModelFiles, text: &[u32]) -> f64 {
    let engine = load(files, &ModelOptions::default());
    let mut sum = 0.0;
    engine
        .session()
        .advance_each(&text[..text.len() - 1], |i, logits| {
            sum += negative_log_likelihood(logits, text[i + 1])?;
            Ok(())
        })
        .unwrap();
    sum / (text.len() - 1) as f64
}

#[test]
fn checkpoints_have_the_same_losses_as_single_models() {
    let run = Run::new();
    let (train, validation) = (tokens(100), tokens(60).into_iter().rev().collect::<Vec<_>>());
    let texts = CurveTexts { train: Some(&train), validation: Some(&validation) };
    let mut stages = Vec::new();
    let result = run.evaluate(texts, &CurveOptions::default(), &mut |state| {
        let name = match state.stage {
            CurveStage::Load(_) => "load".to_owned(),
            CurveStage::Loaded(engine) => format!("loaded {}", engine.vocab_size()),
            CurveStage::Score { tokens_done, n_tokens } => format!("{tokens_done} of {n_tokens}"),
            CurveStage::Done(point) => format!("done {}", point.step),
        };
        let stage = format!("{}/{} {}: {name}", state.checkpoints_done, state.n_checkpoints, state.step);
        if stages.last() != Some(&stage) {
            stages.push(stage);
        }
        ControlFlow::Continue(())
    });
    let result = result.unwrap();
    for (point, checkpoint) in result.points.iter().zip(run.checkpoints()) {
        assert_eq!(point.step, checkpoint.step);
        let expected = [&train, &validation].map(|text| loss(checkpoint.open().unwrap(), text));
        let found = [point.train.unwrap(), point.validation.unwrap()];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "step {}: {found}, not {expected}", point.step);
        }
    }
    let steps: Vec<u64> = result.points.iter().map(|point| point.step).collect();
    assert_eq!((steps, result.complete), (vec![10, 20, 30], true));
    assert!((result.points[0].train.unwrap() - result.points[1].train.unwrap()).abs() > 0.1);
    assert_eq!(result.points[1].train, result.points[2].train);
    assert_eq!((result.train_tokens_scored, result.validation_tokens_scored), (99, 59));
    assert_eq!((result.protocol, result.context, result.stride, result.bos), ("hf", 128, 64, false));
    assert_eq!(result.n_parameters, ModelFiles::open(&TINY).unwrap().config().n_parameters());
    let of_second: Vec<_> = stages.iter().filter_map(|stage| stage.strip_prefix("1/3 20: ")).collect();
    assert_eq!(
        of_second,
        ["load", "loaded 1000", "0 of 158", "99 of 158", "158 of 158", "done 20"],
        "{stages:?}"
    );
}

#[test]
fn a_cancelled_curve_keeps_the_finished_checkpoints() {
    let run = Run::new();
    let text = tokens(100);
    let texts = CurveTexts { train: None, validation: Some(&text) };
    let flag: CancelFlag = Arc::new(AtomicBool::new(false));
    let options = CurveOptions { cancel: Some(Arc::clone(&flag)), ..CurveOptions::default() };
    let result = run.evaluate(texts, &options, &mut |state| {
        // During the second checkpoint.
        flag.store(state.step == 20 && matches!(state.stage, CurveStage::Loaded(_)), Ordering::Relaxed);
        ControlFlow::Continue(())
    });
    let result = result.unwrap();
    assert_eq!((result.points.len(), result.points[0].step, result.complete), (1, 10, false));
    assert_eq!((result.points[0].train, result.train_tokens_scored), (None, 0));
    flag.store(true, Ordering::Relaxed);
    let nothing = run.evaluate(texts, &options, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(nothing, Err(Error::Cancelled)), "{nothing:?}");
}

#[test]
fn unrelated_checkpoints_are_refused_with_their_step() {
    let run = Run::new();
    let text = tokens(20);
    let texts = CurveTexts { train: Some(&text), validation: None };
    let ignore = &mut |_: CurveProgress<'_>| ControlFlow::Continue(());
    let none = run.evaluate(CurveTexts::default(), &CurveOptions::default(), ignore).unwrap_err().to_string();
    assert!(none.contains("no text to evaluate checkpoints on"), "{none}");
    let short = CurveTexts { train: Some(&text[..1]), validation: None };
    let short = run.evaluate(short, &CurveOptions::default(), ignore).unwrap_err().to_string();
    assert!(short.starts_with("step 10: text: the text has 1 token, but protocol hf"), "{short}");
    let mut checkpoints = run.checkpoints();
    checkpoints[1].path = repository("tests/golden/gpt2-oddvocab");
    let options = CurveOptions::default();
    let error = evaluate(&checkpoints, texts, &GPU, &ModelOptions::default(), &options, ignore);
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("step 20: the vocabularies differ"), "{error}");
    let none =
        evaluate(&[], texts, &GPU, &ModelOptions::default(), &options, ignore).unwrap_err().to_string();
    assert!(none.contains("no checkpoint"), "{none}");
}
