//! Whole models against logits that transformers computed in f64
//! (tests/golden/README.md), and against a model built from the naive twins.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use safetensors::SafeTensors;
use serde_json::Value;
use wgpt::internals::kernels::Op;
use wgpt::{DType, Engine, Gpu, GpuOptions, ModelFiles, ModelOptions, Session, Strategy};

use crate::support::open_gpu;
use crate::support::reference_model::ReferenceModel;

/// With f32 weights and cache: the largest absolute error of a logit. The logits have a
/// standard deviation of 3 to 5; f32 sums of up to 256 terms in two to four layers leave
/// an error of a few 1e-5.
const TOLERANCE_F32: f64 = 2e-4;

/// With f16 weights and cache, against the naive model on the rounded weights. Rounding
/// keys and values costs a relative error of up to 2^-11 each, which softmax and the
/// layers carry on to logits of up to 20.
const TOLERANCE_F16: f64 = 2e-2;

/// Returns every folder of tests/golden with a model and its logits.
fn golden_dirs() -> Vec<PathBuf> {
    let inner = |dir: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    };
    let tops = inner(Path::new("tests/golden"));
    let mut dirs: Vec<PathBuf> = tops.iter().flat_map(|top| inner(top)).chain(tops.clone()).collect();
    // stories260k has a separate test, because its texts differ in length.
    dirs.retain(|dir| dir.join("config.json").exists() && !dir.ends_with("stories260k"));
    dirs.sort();
    assert!(dirs.len() >= 40, "golden models are missing: {}", dirs.len());
    dirs
}

/// Rows of tokens with their logits, and the greedy continuation.
struct Golden {
    rows: Vec<Vec<u32>>,
    /// For each row `[positions, vocab_size]`; there may be fewer positions than tokens
    /// and fewer entries than rows.
    logits: Vec<Vec<f64>>,
    /// For each row and position the logarithm of the sum of the exponentials of the
    /// logits, if known.
    logsumexp: Option<Vec<Vec<f64>>>,
    greedy: Option<(Vec<u32>, usize)>,
}

impl Golden {
    fn read(dir: &Path) -> Golden {
        let f64_only = dir.join("golden_f64.safetensors");
        let path = if f64_only.exists() { f64_only } else { dir.join("golden.safetensors") };
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ids = |name: &str| -> Option<(Vec<usize>, Vec<u32>)> {
            let tensor = file.tensor(name).ok()?;
            let ids = tensor.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as u32);
            Some((tensor.shape().to_vec(), ids.collect()))
        };
        let (shape, all) = ids("input_ids").unwrap();
        let doubles = |data: &[u8]| -> Vec<f64> {
            data.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let logits = file.tensor("logits_f64").unwrap();
        let values = doubles(logits.data());
        let sums = file.tensor("logsumexp_f64").ok().map(|sums| doubles(sums.data()));
        let [n_rows, positions, vocab] = logits.shape()[..] else { panic!("shape of logits_f64") };
        let greedy = ids("greedy_ids").map(|(_, all)| (all, shape[1].min(8)));
        Golden {
            rows: all.chunks(shape[1]).map(<[u32]>::to_vec).collect(),
            logits: values.chunks(positions * vocab).take(n_rows).map(<[f64]>::to_vec).collect(),
            logsumexp: sums.map(|sums| sums.chunks(shape[1]).map(<[f64]>::to_vec).collect()),
            greedy,
        }
    }

    /// Returns the largest error of the logits of row `row`, `[tokens, vocab_size]`, or
    /// of their log-sums, which check the logits that are not in the file.
    fn error(&self, row: usize, found: &[f32]) -> f64 {
        let vocab_size = found.len() / self.rows[row].len();
        assert_eq!(found.len(), self.rows[row].len() * vocab_size);
        let of_logits = self.logits.get(row).map(|logits| max_error(found, logits.iter().copied()));
        let of_sums = self.logsumexp.as_ref().map(|sums| {
            let sums_found: Vec<f32> = found.chunks(vocab_size).map(|row| logsumexp(row) as f32).collect();
            max_error(&sums_found, sums[row].iter().copied())
        });
        let worst = |a: f64, b: f64| if a >= b { a } else { b };
        match (of_logits, of_sums) {
            (Some(a), Some(b)) => worst(a, b),
            (a, b) => a.or(b).expect("something is compared"),
        }
    }
}

/// Devices with every strategy that the adapter runs, with its real limits and on the floor.
/// The floor has bounds checks in the shaders. Models share these devices and their
/// pipelines.
static GPUS: LazyLock<Vec<Arc<Gpu>>> = LazyLock::new(|| {
    let open = |features_floor: bool, strategy: Option<Strategy>| {
        let checked_shaders = features_floor;
        Arc::new(open_gpu(GpuOptions { features_floor, strategy, checked_shaders, ..GpuOptions::default() }))
    };
    let strategies = open(false, None).strategies();
    let mut all: Vec<_> = strategies.into_iter().map(|strategy| open(false, Some(strategy))).collect();
    all.extend([Strategy::PerThread, Strategy::Workgroup].map(|strategy| open(true, Some(strategy))));
    all
});

/// Models that together have every trait of a description. All devices run them. The first
/// device runs the other models too; they combine the same traits.
static SPANNING: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
    let mut met = BTreeSet::new();
    let mut dirs = golden_dirs();
    dirs.retain(|dir| {
        let traits = traits(dir);
        let is_new = !traits.is_subset(&met);
        met.extend(traits);
        is_new
    });
    println!("{} models run on every device: {dirs:?}", dirs.len());
    dirs
});

/// Returns what a model's layers consist of, with which sizes left out: each field of the
/// description with its word, or whether it is present. Left out are the activation, which
/// kernel cases cover, and the scaling of rotary frequencies, which only changes a table.
fn traits(dir: &Path) -> BTreeSet<String> {
    fn add(path: &str, value: &Value, traits: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                let fields =
                    fields.iter().filter(|(name, _)| !["activation", "scaling"].contains(&name.as_str()));
                fields.for_each(|(name, value)| add(&format!("{path}.{name}"), value, traits));
            }
            Value::Array(entries) => entries.iter().for_each(|entry| add(path, entry, traits)),
            Value::Number(_) => _ = traits.insert(path.to_owned()),
            word => _ = traits.insert(format!("{path} {word}")),
        }
    }
    let files = ModelFiles::open(dir).unwrap();
    let config = files.config();
    let described = serde_json::to_value(config).unwrap();
    let mut traits = BTreeSet::new();
    for part in ["embedding", "norms", "residual", "attention", "mlp", "head"] {
        add(part, &described[part], &mut traits);
    }
    let attention = &config.attention;
    traits.insert(match attention.n_kv_head {
        1 => "one head of k and v".to_owned(),
        n if n < attention.n_head => "shared heads of k and v".to_owned(),
        _ => "as many heads of k and v".to_owned(),
    });
    let partial = attention.ropes.iter().any(|rope| rope.n_rot < attention.head_dim);
    traits.insert(format!("partial rotation {partial}"));
    traits
}

/// Returns the devices that run a model.
fn gpus(dir: &Path) -> Vec<&'static Arc<Gpu>> {
    GPUS.iter().take(if SPANNING.iter().any(|spanning| spanning == dir) { GPUS.len() } else { 1 }).collect()
}

/// Returns the devices that run a model in f16: those of [`gpus`] for GPT-2, one for the
/// other architectures, which run in f32 on the others.
fn gpus_f16(dir: &Path) -> Vec<&'static Arc<Gpu>> {
    gpus(dir).into_iter().take(if is_gpt2(dir) { GPUS.len() } else { 1 }).collect()
}

/// GPT-2 is the model that tests the scheduler: it takes every path.
fn is_gpt2(dir: &Path) -> bool {
    ModelFiles::open(dir).unwrap().config().architecture == "gpt2"
}

fn engine(gpu: &Arc<Gpu>, dir: &Path, options: &ModelOptions) -> Engine {
    let files = ModelFiles::open(dir).unwrap();
    Engine::load(files, Arc::clone(gpu), options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

/// Describes the device for a failure message.
fn setup(gpu: &Gpu) -> String {
    format!("{:?} features_floor={}", gpu.strategy(), gpu.options().features_floor)
}

/// How a row of tokens is fed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Feed {
    Whole,
    Chunks(usize),
    /// One token at a time through the decode kernels.
    Decode,
}

const FEEDS: [Feed; 5] = [Feed::Whole, Feed::Chunks(1), Feed::Chunks(3), Feed::Chunks(16), Feed::Decode];

/// Returns how a row of a model is fed. GPT-2's rows are fed in all ways. For the other
/// architectures, the first row is fed in chunks and token by token, the others whole,
/// because there are many of them and a step takes milliseconds on software adapters.
fn feeds(dir: &Path, row: usize) -> &'static [Feed] {
    if is_gpt2(dir) {
        &FEEDS
    } else if row == 0 {
        &[Feed::Chunks(16), Feed::Decode]
    } else {
        &[Feed::Whole]
    }
}

/// Returns the logits of all positions, `[n, vocab_size]`.
fn logits(session: &mut Session, tokens: &[u32], feed: Feed) -> Vec<f32> {
    session.truncate(0);
    let mut all = Vec::new();
    let chunk = match feed {
        Feed::Whole => tokens.len(),
        Feed::Chunks(n) => n,
        Feed::Decode => {
            for &token in tokens {
                all.extend_from_slice(session.advance(&[token]).unwrap());
            }
            return all;
        }
    };
    for piece in tokens.chunks(chunk) {
        session
            .advance_each(piece, |_, row| {
                all.extend_from_slice(row);
                Ok(())
            })
            .unwrap();
    }
    all
}

fn max_error(found: &[f32], expected: impl Iterator<Item = f64>) -> f64 {
    let mut compared = 0;
    let mut worst = 0.0_f64;
    for (found, expected) in found.iter().zip(expected) {
        // This form counts a NaN as an error.
        let error = (f64::from(*found) - expected).abs();
        worst = if error <= worst { worst } else { error };
        compared += 1;
    }
    assert!(compared > 0, "nothing was compared");
    worst
}

fn logsumexp(row: &[f32]) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(max) + row.iter().map(|x| f64::from(x - max).exp()).sum::<f64>().ln()
}

fn f32_options() -> ModelOptions {
    ModelOptions { dtype: DType::F32, kv_dtype: DType::F32, ..ModelOptions::default() }
}

#[test]
fn f32_logits_and_greedy_tokens_equal_transformers_on_every_path() {
    equal_transformers(gpus);
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn every_model_equals_transformers_on_every_device() {
    equal_transformers(|_| GPUS.iter().collect());
}

/// Compares the logits of every model in f32, on the devices that `gpus` returns for it.
fn equal_transformers(gpus: fn(&Path) -> Vec<&'static Arc<Gpu>>) {
    let mut worst = (0.0, String::new());
    for dir in golden_dirs() {
        for gpu in gpus(&dir) {
            let golden = Golden::read(&dir);
            let engine = engine(gpu, &dir, &f32_options());
            let mut session = engine.session();
            for (row, tokens) in golden.rows.iter().enumerate() {
                for feed in feeds(&dir, row) {
                    let feed = *feed;
                    let error = golden.error(row, &logits(&mut session, tokens, feed));
                    let case = format!("{} {feed:?} {}", dir.display(), setup(gpu));
                    assert!(error <= TOLERANCE_F32, "{case}: error {error:e}");
                    if error > worst.0 {
                        worst = (error, case);
                    }
                }
            }
            check_greedy(&mut session, &golden, &format!("{} {}", dir.display(), setup(gpu)));
        }
    }
    println!("largest error {:e} in {}", worst.0, worst.1);
}

/// Forces every implementation that the device can run in turn.
#[test]
fn every_forced_variant_equals_transformers() {
    // GPT-2, then a model with parts that GPT-2 lacks: an RMSNorm, rotation, a gate, fewer
    // heads of k and v.
    every_variant("gpt2-tiny", &GPUS[0], &[Op::RmsNorm, Op::RmsGemv]);
    every_variant("llama/gqa-tied", &GPUS[0], &[Op::LayerNorm, Op::NormGemv, Op::Score]);
}

#[test]
#[ignore = "takes minutes: make test-all"]
fn every_forced_variant_equals_transformers_on_the_floor() {
    every_variant("gpt2-tiny", &GPUS[GPUS.len() - 1], &[Op::RmsNorm, Op::RmsGemv]);
}

fn every_variant(dir: &str, gpu: &Arc<Gpu>, but: &[Op]) {
    let dir = &Path::new("tests/golden").join(dir);
    let golden = Golden::read(dir);
    let tokens = &golden.rows[0];
    let ops: Vec<Op> = Op::ALL.into_iter().filter(|op| !but.contains(op)).collect();
    let mut forced = 0;
    for candidate in ops.iter().flat_map(|op| op.candidates()) {
        if !candidate.runs_on(&gpu.capabilities()) {
            continue;
        }
        let engine = engine(gpu, dir, &ModelOptions { variants: vec![candidate], ..f32_options() });
        let mut session = engine.session();
        for feed in [Feed::Chunks(16), Feed::Decode] {
            let error = golden.error(0, &logits(&mut session, tokens, feed));
            assert!(error <= TOLERANCE_F32, "{candidate} {feed:?} {}: error {error:e}", setup(gpu));
        }
        forced += 1;
    }
    assert!(forced >= 2 * ops.len(), "{forced} variants on {}", setup(gpu));
}

/// Checks the most probable tokens, one by one.
fn check_greedy(session: &mut Session, golden: &Golden, case: &str) {
    let Some((ids, n_prompt)) = &golden.greedy else { return };
    session.truncate(0);
    let mut found = ids[..*n_prompt].to_vec();
    let mut next = session.advance_greedy(&found).unwrap();
    while found.len() + 1 < ids.len() {
        found.push(next);
        next = session.advance_greedy(&[next]).unwrap();
    }
    found.push(next);
    assert_eq!(&found, ids, "{case}");
}

#[test]
fn the_model_nano_sort_sorts() {
    let engine = engine(&GPUS[0], Path::new("tests/golden/gpt-nano-sort"), &ModelOptions::default());
    for letters in [[2, 1, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0], [2, 2, 1, 1, 0, 0], [0, 1, 2, 0, 1, 2]] {
        let mut session = engine.session();
        let mut next = session.advance_greedy(&letters).unwrap();
        let mut sorted = vec![next];
        while sorted.len() < 6 {
            next = session.advance_greedy(&[next]).unwrap();
            sorted.push(next);
        }
        let mut expected = letters.to_vec();
        expected.sort_unstable();
        assert_eq!(sorted, expected);
    }
}

/// Compares with the naive model on weights rounded to f16; returns the largest error.
fn compare_with_naive(gpu: &Arc<Gpu>, dir: &Path, kv_dtype: DType, naive_kv: DType) -> f64 {
    let engine = engine(gpu, dir, &ModelOptions { kv_dtype, ..ModelOptions::default() });
    let files = engine.files();
    let naive = ReferenceModel::new(files.config(), files.checkpoint(), DType::F16, naive_kv);
    let mut session = engine.session();
    let mut worst = 0.0_f64;
    for tokens in &Golden::read(dir).rows {
        let expected = naive.logits(tokens);
        let ways: &[Feed] = if is_gpt2(dir) {
            &[Feed::Whole, Feed::Chunks(3), Feed::Decode]
        } else {
            &[Feed::Chunks(16), Feed::Decode]
        };
        for feed in ways {
            let found = logits(&mut session, tokens, *feed);
            assert_eq!(found.len(), expected.len());
            let error = max_error(&found, expected.iter().map(|x| f64::from(*x)));
            worst = if error <= worst { worst } else { error };
        }
    }
    worst
}

#[test]
fn f16_weights_equal_the_naive_model_on_rounded_weights() {
    for dir in golden_dirs() {
        for gpu in gpus_f16(&dir) {
            let error = compare_with_naive(gpu, &dir, DType::F32, DType::F32);
            assert!(error <= TOLERANCE_F32, "{} {}: error {error:e}", dir.display(), setup(gpu));
        }
    }
}

#[test]
fn f16_weights_and_cache_stay_near_the_naive_model() {
    for dir in golden_dirs() {
        for gpu in gpus_f16(&dir) {
            // Scores that are not scaled by 1 / sqrt(head_dim), or those of small models
            // with large weights, amplify the cache's rounding. For such models the naive
            // model rounds its cache too, so the only remaining difference is an
            // occasional key rounded to its other neighbour.
            let scaled = ModelFiles::open(&dir).unwrap().config().attention_scale(0) < 1.0;
            let naive_kv = if scaled && is_gpt2(&dir) { DType::F32 } else { DType::F16 };
            let error = compare_with_naive(gpu, &dir, DType::F16, naive_kv);
            assert!(error <= TOLERANCE_F16, "{} {}: error {error:e}", dir.display(), setup(gpu));
        }
    }
}

#[test]
fn the_naive_model_equals_transformers() {
    for dir in golden_dirs() {
        let golden = Golden::read(&dir);
        let files = ModelFiles::open(&dir).unwrap();
        let naive = ReferenceModel::new(files.config(), files.checkpoint(), DType::F32, DType::F32);
        for (row, tokens) in golden.rows.iter().enumerate() {
            let error = golden.error(row, &naive.logits(tokens));
            assert!(error <= TOLERANCE_F32, "{}: error {error:e}", dir.display());
        }
    }
}

#[test]
fn deterministic_logits_do_not_depend_on_the_chunks() {
    for gpu in GPUS.iter() {
        for name in ["gpt2-tiny", "gpt2-variants/tanh-25heads-bf16", "llama/gqa-untied", "mistral/window7"] {
            let dir = Path::new("tests/golden").join(name);
            let golden = Golden::read(&dir);
            let options = ModelOptions { deterministic: true, ..ModelOptions::default() };
            let engine = engine(gpu, &dir, &options);
            let mut session = engine.session();
            let whole = logits(&mut session, &golden.rows[0], Feed::Whole);
            for feed in FEEDS {
                let found = logits(&mut session, &golden.rows[0], feed);
                let same = whole.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same && whole.len() == found.len(), "{name} {feed:?} {}", setup(gpu));
            }
        }
    }
}

/// A gemm that splits k gives the right logits; it is refused in deterministic mode,
/// where results must not depend on the number of rows.
#[test]
fn a_split_gemm_is_correct_but_refused_in_deterministic_mode() {
    let dir = Path::new("tests/golden/gpt2-tiny");
    let golden = Golden::read(dir);
    let options = |deterministic, variants: &[&str]| {
        let variants = variants.iter().map(|name| name.parse().unwrap()).collect();
        ModelOptions { deterministic, variants, ..f32_options() }
    };
    let run = |variants: &[&str]| {
        let engine = engine(&GPUS[0], dir, &options(false, variants));
        logits(&mut engine.session(), &golden.rows[0], Feed::Whole)
    };
    let bits = |logits: &[f32]| logits.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let (plain, split) = (run(&[]), run(&["gemm=split_4"]));
    assert_ne!(bits(&plain), bits(&split), "split sums round differently");
    let worst = max_error(&split, golden.logits[0].iter().copied());
    assert!(worst <= TOLERANCE_F32, "error {worst:e}");
    let files = ModelFiles::open(dir).unwrap();
    let refused = Engine::load(files, Arc::clone(&GPUS[0]), &options(true, &["gemm=split_4"]), &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
    let error = refused.err().expect("the sums depend on the number of rows").to_string();
    assert!(error.contains("gemm=split_4") && error.contains("ModelOptions::deterministic"), "{error}");
}
