//! Tuning: the canary, the search, the file of choices, and how a model uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wgpt::internals::conformance::{Dropped, Shapes, canary_cases, check_candidate};
use wgpt::internals::engine::{load_model, tune_model, tuned_shapes};
use wgpt::internals::kernels::{Candidate, Choices, NormForm, Op};
use wgpt::internals::model::{Decoder, Model, random};
use wgpt::internals::tune::cache::{self, Key};
use wgpt::internals::tune::{Budget, OpTuning, Progress, run, run_among};
use wgpt::{
    DType, Engine, Error, ErrorKind, Gpu, GpuOptions, MemoryPlan, ModelFiles, ModelOptions, Strategy, Tuning,
};

use crate::support::faulty::{faulty, named};
use crate::support::open_gpu;

/// Returns sizes with ragged rows and heads.
fn shapes(dtype: DType) -> Shapes {
    Shapes {
        n_layer: 3,
        n_embd: 75,
        n_head: 5,
        n_kv_head: 5,
        head_dim: 15,
        n_inner: 100,
        gated: false,
        rotary: false,
        vocab_size: 131,
        n_positions: 64,
        chunk: 20,
        norm: NormForm::Layer,
        dtype,
        kv_dtype: dtype,
    }
}

/// Checks a kernel candidate with the canary.
#[allow(unsafe_code, reason = "the canary runs kernels unchecked, as tuning does")]
fn check(gpu: &Gpu, candidate: &'static Candidate, others: &Choices, shapes: &Shapes) -> Option<Dropped> {
    // SAFETY: the shapes in this file are those of small models that the library runs.
    unsafe { check_candidate(gpu, candidate, others, shapes) }
}

/// Loads random weights of a described shape for a search.
fn model(gpu: &Arc<Gpu>, shape: &str) -> Model {
    let files = ModelFiles::random(random::shape(shape).unwrap(), 1).unwrap();
    let options = ModelOptions { prefill_chunk: 20, ..ModelOptions::default() };
    load_model(gpu, &files, &options, &mut |_| std::ops::ControlFlow::Continue(())).unwrap()
}

/// The shape of [`shapes`].
const RAGGED: &str = "n_layer=3,n_embd=75,n_head=5,n_inner=100,vocab_size=131,n_positions=64";

/// A model with gates, rotation, and fewer heads of k and v.
const LLAMA: &str = "tinyllama-1.1b,n_layer=2,n_embd=84,n_head=6,n_kv_head=2,head_dim=14,n_inner=100,vocab_size=131,\
                     n_positions=64";

/// A model that takes nothing of a memory budget.
fn nothing() -> MemoryPlan {
    MemoryPlan { entries: Vec::new() }
}

/// Enough time for every candidate that a test lets the search try.
const PATIENT: Budget = Budget { time: Duration::from_secs(600), full: false };

fn no_cancel() -> AtomicBool {
    AtomicBool::new(false)
}

#[test]
fn the_canary_passes_correct_kernels_and_names_faults() {
    let gpu = open_gpu(GpuOptions::default());
    let choices = Choices::new(&gpu.capabilities(), &[]).unwrap();
    for dtype in [DType::F16, DType::F32] {
        let shapes = shapes(dtype);
        for op in Op::ALL {
            let fault = check(&gpu, choices.get(op), &choices, &shapes);
            assert_eq!(fault, None, "{op} {dtype}");
            assert!(canary_cases(op, &shapes).len() >= 2);
        }
        for (candidate, fault) in faulty() {
            let dropped =
                check(&gpu, candidate, &choices, &shapes).unwrap_or_else(|| panic!("{candidate} passed"));
            let text = dropped.to_string();
            assert!(text.starts_with(&format!("{candidate} is dropped")) && text.contains(fault), "{text}");
        }
        // Gates, rotation, fewer heads of k and v, the other norm.
        let llama = Shapes {
            n_head: 6,
            n_kv_head: 2,
            head_dim: 14,
            gated: true,
            rotary: true,
            norm: NormForm::Rms,
            ..shapes.clone()
        };
        for op in Op::ALL {
            assert_eq!(check(&gpu, choices.get(op), &choices, &llama), None, "{op} {dtype}");
        }
        // The device is unharmed.
        assert_eq!(check(&gpu, choices.get(Op::LayerNorm), &choices, &shapes), None);
    }
}

#[test]
fn the_search_drops_wrong_kernels_and_takes_clearly_faster_ones() {
    // Kernels that wait at barriers are many times slower on software adapters, most of
    // all kernels with a norm in every workgroup. On GPUs, kernels without workgroup
    // memory are slower. Either way, one default loses.
    let software = open_gpu(GpuOptions::default()).report().is_software();
    let (op, slow, fast, better) = if software {
        (Op::NormGemv, Strategy::Workgroup, Strategy::PerThread, "per_thread")
    } else {
        (Op::Gemv, Strategy::PerThread, Strategy::Workgroup, "workgroup_64")
    };
    let gpu = Arc::new(open_gpu(GpuOptions { strategy: Some(slow), ..GpuOptions::default() }));
    let default = Choices::new(&gpu.capabilities(), &[]).unwrap().get(op);
    assert_ne!(default.strategy(), fast);
    let shape = "n_layer=3,n_embd=768,n_head=12,n_inner=3072,vocab_size=131,n_positions=64";
    let model = model(&gpu, shape);
    let broken = faulty().map(|(candidate, _)| candidate);
    let candidates = |other| match other {
        Op::LayerNorm => {
            [&broken[..], &[Choices::new(&gpu.capabilities(), &[]).unwrap().get(other)]].concat()
        }
        _ if other == op => vec![named(op, better), default],
        _ => Vec::new(),
    };
    let mut seen = Vec::new();
    let mut progress = |progress: Progress| seen.push(progress);
    let tuning = run_among(&model, nothing(), PATIENT, &candidates, &mut progress, &no_cancel()).unwrap();
    let dropped: Vec<_> = tuning.dropped.iter().map(|dropped| dropped.candidate).collect();
    assert!(dropped == broken, "{:?}", tuning.dropped.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert!(seen.iter().all(|p| (0.0..=1.0).contains(&p.done)) && seen.len() >= 6);
    assert_eq!(seen[0].candidate.op(), Op::LayerNorm);
    let of = |op: Op| tuning.ops.iter().find(|found| found.op == op).unwrap();
    // A faulty candidate is never timed, let alone chosen.
    assert_eq!(of(Op::LayerNorm).chosen, of(Op::LayerNorm).default);
    assert_eq!(of(Op::LayerNorm).timed.len(), 1);
    let found = of(op);
    let times: Vec<_> = found.timed.iter().map(|timed| (timed.candidate.name(), timed.median_ns)).collect();
    assert!((found.default, found.chosen) == (default, named(op, better)), "{times:?}");
    assert!(found.gain().unwrap() > 1.03 && found.complete, "{times:?}");
    assert_eq!(found.timed[0].candidate, found.chosen);
    assert!(tuning.is_complete());
}

/// The kernels of a Llama are checked and timed: a gated MLP, rotated q and k.
#[test]
fn a_gated_and_rotated_model_is_tuned() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let default = Choices::new(&gpu.capabilities(), &[]).unwrap();
    let plain = shapes(DType::F16);
    let heads = Shapes { n_head: 6, n_kv_head: 2, head_dim: 16, ..plain.clone() };
    let shapes = Shapes { gated: true, rotary: true, ..heads };
    for op in [Op::Gemv, Op::NormGemv, Op::Gemm] {
        let names = |shapes: &Shapes| -> Vec<String> {
            canary_cases(op, shapes).iter().map(ToString::to_string).collect()
        };
        let added = names(&shapes).into_iter().filter(|name| !names(&plain).contains(name));
        assert!(added.filter(|name| name.contains("gated") || name.contains("rotated")).count() >= 2, "{op}");
    }
    // gemm in tiles passes gate and up through a buffer.
    let candidates = |op| match op {
        Op::Gemm => vec![default.get(op), named(op, "tile_32x32")],
        _ => vec![default.get(op)],
    };
    let model = model(&gpu, &format!("{LLAMA},n_layer=3"));
    let tuning = run_among(&model, nothing(), PATIENT, &candidates, &mut |_| {}, &no_cancel()).unwrap();
    assert!(tuning.dropped.is_empty() && tuning.is_complete(), "{:?}", tuning.dropped);
    assert!(tuning.ops.iter().all(|op| op.timed.iter().all(|timed| timed.median_ns > 0.0)));
}

#[test]
fn only_operations_of_the_model_are_tuned() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let choices = Choices::new(&gpu.capabilities(), &[]).unwrap();
    let both = [[Op::LayerNorm, Op::NormGemv], [Op::RmsNorm, Op::RmsGemv]];
    for (shape, [own, other]) in [(RAGGED, both), (LLAMA, [both[1], both[0]])] {
        let model = model(&gpu, shape);
        let only_default = |op| vec![choices.get(op)];
        let tuning = run_among(&model, nothing(), PATIENT, &only_default, &mut |_| {}, &no_cancel()).unwrap();
        let tuned: Vec<Op> = tuning.ops.iter().map(|found| found.op).collect();
        assert!(own.iter().all(|op| tuned.contains(op)) && !other.iter().any(|op| tuned.contains(op)));
        assert_eq!(tuned.len(), Op::ALL.len() - 2);
        assert!(tuning.dropped.is_empty() && tuning.is_complete());
        assert!(tuning.ops.iter().all(|found| found.timed.len() == 1), "each has a share of a step");
        assert!(tuning.ops.iter().all(|found| found.timed[0].median_ns > 0.0), "each has dispatches");
    }
}

/// A search that does not fit the memory budget fails before it allocates, and leaves
/// nothing allocated.
#[test]
fn a_search_keeps_the_memory_budget() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let mut model = model(&gpu, RAGGED);
    let before = gpu.ledger().total_bytes();
    model.options.memory_budget = Some(1000);
    let found = run(&model, nothing(), PATIENT, &mut |_| {}, &no_cancel());
    let Err(error @ Error::Budget(_)) = found else { panic!("{found:?}") };
    assert!(error.to_string().contains("the budget is 1000"), "{error}");
    assert_eq!(gpu.ledger().total_bytes(), before);
    model.options.memory_budget = Some(1 << 30);
    let short = Budget { time: Duration::from_nanos(1), full: false };
    run(&model, nothing(), short, &mut |_| {}, &no_cancel()).unwrap();
    assert_eq!(gpu.ledger().total_bytes(), before);
}

#[test]
fn the_tuning_budget_is_kept_and_a_search_can_be_cancelled() {
    let gpu = Arc::new(open_gpu(GpuOptions::default()));
    let model = model(&gpu, RAGGED);
    let none = Budget { time: Duration::ZERO, full: true };
    assert_eq!(run(&model, nothing(), none, &mut |_| {}, &no_cancel()).unwrap(), Tuning::default());
    // Nothing fits the tuning budget: at most the first operation's default is tried.
    let short = Budget { time: Duration::from_nanos(1), full: true };
    let tuning = run(&model, nothing(), short, &mut |_| {}, &no_cancel()).unwrap();
    assert!(tuning.ops.len() <= 1 && !tuning.is_complete());
    assert!(tuning.ops.iter().all(|op| op.chosen == op.default));

    let cancelled = run(&model, nothing(), PATIENT, &mut |_| {}, &AtomicBool::new(true));
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let flag = no_cancel();
    let mut n = 0;
    let mut progress = |_| {
        n += 1;
        flag.store(n == 3, Ordering::Relaxed);
    };
    assert!(matches!(run(&model, nothing(), PATIENT, &mut progress, &flag), Err(Error::Cancelled)));
    assert_eq!(n, 3);
}

/// A device with a cache, the smallest model, and a tuning that chooses something other
/// than the default for attention.
struct Setup {
    dir: tempfile::TempDir,
    config: Decoder,
    other: &'static Candidate,
    tuning: Tuning,
}

const OP: Op = Op::AttentionDecode;

impl Setup {
    fn new() -> Self {
        let gpu = open_gpu(GpuOptions::default());
        let device = gpu.capabilities();
        let default = Choices::new(&device, &[]).unwrap().get(OP);
        let others = OP.candidates().iter();
        let other = others.rev().find(|other| other.runs_on(&device) && *other != default).unwrap();
        let ops = vec![OpTuning { op: OP, default, chosen: other, timed: Vec::new(), complete: true }];
        let config = random::shape("n_layer=1,n_embd=16,n_head=2,n_inner=32,vocab_size=50,n_positions=32");
        let tuning = Tuning { ops, ..Tuning::default() };
        Setup { dir: tempfile::tempdir().unwrap(), config: config.unwrap(), other, tuning }
    }

    fn gpu(&self) -> Arc<Gpu> {
        Arc::new(open_gpu(GpuOptions { cache_dir: Some(self.dir.path().into()), ..GpuOptions::default() }))
    }

    fn files(&self) -> ModelFiles {
        ModelFiles::random(self.config.clone(), 1).unwrap()
    }

    fn key(&self, gpu: &Gpu) -> Key {
        let shapes = tuned_shapes(&self.config, &ModelOptions::default());
        Key::new(gpu.report(), &gpu.capabilities(), shapes)
    }

    fn store(&self) -> PathBuf {
        let gpu = self.gpu();
        cache::store(self.dir.path(), &self.key(&gpu), &self.tuning).unwrap()
    }

    fn load(&self, gpu: impl Into<Arc<Gpu>>, options: &ModelOptions) -> Engine {
        let progress = &mut |_| std::ops::ControlFlow::Continue(());
        Engine::load(self.files(), gpu.into(), options, progress).unwrap()
    }

    /// Loads the model with the cache; returns the engine and the warnings.
    fn reload(&self) -> (Engine, Vec<String>) {
        let engine = self.load(self.gpu(), &ModelOptions::default());
        let warnings = engine.gpu().take_warnings();
        (engine, warnings)
    }
}

#[test]
fn a_model_runs_with_its_tuned_choices() {
    let setup = Setup::new();
    let (untuned, warnings) = setup.reload();
    assert_eq!((untuned.is_tuned(), &warnings[..]), (false, &[][..]));
    let default = untuned.choices().get(OP);
    assert_ne!(default, setup.other);

    setup.store();
    let (tuned, warnings) = setup.reload();
    assert_eq!((tuned.is_tuned(), &warnings[..]), (true, &[][..]));
    assert_eq!(tuned.choices().get(OP), setup.other);
    assert_eq!(tuned.choices().get(Op::Gemm), untuned.choices().get(Op::Gemm));

    // Forced choices win; deterministic models and other shapes are not tuned.
    let load = |options| setup.load(setup.gpu(), &options);
    let usual = ModelOptions::default;
    let forced = load(ModelOptions { variants: vec![default], ..usual() });
    assert_eq!((forced.is_tuned(), forced.choices().get(OP)), (true, default));
    for options in [
        ModelOptions { deterministic: true, ..usual() },
        ModelOptions { kv_dtype: DType::F32, ..usual() },
        ModelOptions { prefill_chunk: 7, ..usual() },
    ] {
        let other = load(options);
        assert_eq!((other.is_tuned(), other.choices().get(OP)), (false, default));
    }
    // Without a cache directory nothing is looked up.
    let none = setup.load(open_gpu(GpuOptions::default()), &usual());
    assert_eq!((none.is_tuned(), none.choices().get(OP)), (false, default));
}

/// Returns the file with one JSON string or number replaced.
fn edited(text: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
    text.replace(from, to).into_bytes()
}

#[test]
fn a_damaged_or_foreign_file_is_ignored_and_rewritten() {
    let setup = Setup::new();
    let path = setup.store();
    let text = std::fs::read_to_string(&path).unwrap();
    let adapter = serde_json::to_string(&setup.gpu().report().name).unwrap();
    let choice = format!("\"{}\"", setup.other.name());
    let cases: [(Vec<u8>, &str); 9] = [
        (text.as_bytes()[..text.len() / 2].to_vec(), "it is damaged"),
        (b"garbage".to_vec(), "it is damaged"),
        (vec![0xff; 100], "it is damaged"),
        (Vec::new(), "it is damaged"),
        (vec![b' '; 100_000], "more than"),
        (edited(&text, "\"format\": 1", "\"format\": 2"), "format 2"),
        (edited(&text, &adapter, "\"another\""), "another adapter"),
        (edited(&text, &choice, "\"unheard_of\""), "unheard_of"),
        (edited(&text, "\"choices\"", "\"chances\""), "it is damaged"),
    ];
    for (bytes, message) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let (engine, warnings) = setup.reload();
        assert!(!engine.is_tuned(), "{message}");
        let [warning] = &warnings[..] else { panic!("{message}: {warnings:?}") };
        assert!(warning.contains(message) && warning.contains(&*path.to_string_lossy()), "{warning}");
        // Once rewritten, the file is used again.
        assert_eq!(setup.store(), path);
        let (engine, warnings) = setup.reload();
        assert!(engine.is_tuned() && warnings.is_empty(), "{warnings:?}");
    }
}

#[test]
fn each_key_has_a_separate_file() {
    let setup = Setup::new();
    let gpu = setup.gpu();
    let key = setup.key(&gpu);
    let path = setup.store();
    let mut others = vec![key.clone(); 6];
    others[0].adapter += "x";
    others[1].driver_info += "x";
    others[2].kernels = "0123456789abcdef".into();
    others[3].subgroups = !key.subgroups;
    others[4].shapes.dtype = DType::F32;
    others[5].driver += "x";
    for other in &others {
        assert_eq!(cache::load(setup.dir.path(), other, &gpu.capabilities()), cache::Found::default());
        assert_ne!(cache::store(setup.dir.path(), other, &setup.tuning).unwrap(), path);
    }
    assert_eq!(key.kernels, wgpt::internals::kernels::SOURCE_HASH);
    // A choice that the device cannot run is not used, whatever the file says.
    let floor = open_gpu(GpuOptions { features_floor: true, ..GpuOptions::default() }).capabilities();
    if !setup.other.runs_on(&floor) {
        let found = cache::load(setup.dir.path(), &key, &floor);
        assert!(found.choices.is_none() && found.warning.unwrap().contains("cannot run here"));
    }
}

#[test]
fn concurrent_writers_leave_one_complete_file() {
    let setup = Setup::new();
    let gpu = setup.gpu();
    let key = setup.key(&gpu);
    let default = Tuning {
        ops: vec![OpTuning { chosen: setup.tuning.ops[0].default, ..setup.tuning.ops[0].clone() }],
        ..Tuning::default()
    };
    cache::store(setup.dir.path(), &key, &default).unwrap();
    std::thread::scope(|scope| {
        for tuning in [&setup.tuning, &default, &setup.tuning, &default] {
            let (dir, key, device) = (setup.dir.path(), &key, gpu.capabilities());
            scope.spawn(move || {
                for _ in 0..25 {
                    cache::store(dir, key, tuning).unwrap();
                    let found = cache::load(dir, key, &device);
                    assert!(found.choices.is_some() && found.warning.is_none(), "{found:?}");
                }
            });
        }
    });
    assert_eq!(tuning_files(setup.dir.path()).len(), 1);
}

fn tuning_files(dir: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_none_or(|extension| extension != "bin")).collect()
}

#[test]
fn a_tuned_model_is_found_again_and_computes_the_same() {
    let setup = Setup::new();
    let gpu = setup.gpu();
    let options = ModelOptions::default();
    let (before, _) = setup.reload();
    // Enough time for some of the operations.
    let budget = Budget { time: Duration::from_millis(500), full: false };
    let tuning = tune_model(&gpu, &setup.files(), &options, budget, &mut |_| {}, &no_cancel()).unwrap();
    assert!(gpu.take_warnings().is_empty() && tuning.dropped.is_empty(), "{:?}", tuning.dropped);
    let (after, warnings) = setup.reload();
    assert!(after.is_tuned() && warnings.is_empty());
    for op in &tuning.ops {
        assert_eq!(after.choices().get(op.op), op.chosen);
    }
    let logits = |engine: &Engine| engine.session().advance(&[1, 2, 3, 4, 5]).unwrap().to_vec();
    for (a, b) in logits(&before).into_iter().zip(logits(&after)) {
        assert!((a - b).abs() <= 1e-3 * a.abs().max(1.0), "{a} {b}");
    }
}

#[test]
fn an_unwritable_directory_only_prevents_storing() {
    let setup = Setup::new();
    let file = setup.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let gpu = Arc::new(open_gpu(GpuOptions { cache_dir: Some(file.clone()), ..GpuOptions::default() }));
    let error = cache::store(&file, &setup.key(&gpu), &setup.tuning).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert!(cache::check_writable(&file).is_err());
    let budget = Budget { time: Duration::from_millis(50), full: false };
    let options = ModelOptions::default();
    tune_model(&gpu, &setup.files(), &options, budget, &mut |_| {}, &no_cancel()).unwrap();
    let warnings = gpu.take_warnings().join("\n");
    assert!(warnings.contains("tuned choices: cannot write"), "{warnings}");
    let engine = setup.load(gpu, &options);
    assert!(!engine.is_tuned());
}
