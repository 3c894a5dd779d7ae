//! A budget of GPU memory: a model that does not fit is refused before anything is
//! allocated, with changes that would fit. The budget holds while sessions come and go.

use std::ops::ControlFlow;
use std::sync::Arc;

use wgpt::internals::model::random;
use wgpt::{
    Change, DType, DevicePreview, Engine, Error, Gpu, GpuOptions, MemoryGroup, ModelFiles, ModelOptions,
    OverBudget, Session,
};

use crate::support::files::{self, golden};

fn preview(options: &GpuOptions) -> DevicePreview {
    DevicePreview::of(options).unwrap()
}

fn shape(text: &str) -> ModelFiles {
    ModelFiles::random(random::shape(text).unwrap(), 3).unwrap()
}

fn plan_fails(files: &ModelFiles, options: &ModelOptions, device: &DevicePreview) -> OverBudget {
    match Engine::plan(files, options, device) {
        Err(Error::Budget(over)) => *over,
        other => panic!("{other:?}"),
    }
}

fn load(files: ModelFiles, gpu: &Arc<Gpu>, options: &ModelOptions) -> wgpt::Result<Engine> {
    Engine::load(files, Arc::clone(gpu), options, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn a_plan_without_a_device_equals_the_loaded_memory() {
    let options = ModelOptions::default;
    let shapes = [
        "n_layer=1,n_embd=20,n_head=5,n_inner=44,vocab_size=101,n_positions=33",
        "n_layer=3,n_embd=64,n_head=2,n_inner=100,vocab_size=777,n_positions=190",
    ];
    let variants = [
        options(),
        ModelOptions { dtype: DType::F32, prefill_chunk: 7, ..options() },
        ModelOptions { kv_dtype: DType::F32, n_ctx: Some(17), steps_ahead: Some(4), ..options() },
        ModelOptions { deterministic: true, steps_ahead: Some(16), ..options() },
    ];
    let gpus = [
        files::gpu(),
        GpuOptions { features_floor: true, ..files::gpu() },
        GpuOptions { max_binding_bytes: Some(52 << 10), ..files::gpu() },
    ];
    for gpu_options in &gpus {
        let device = preview(gpu_options);
        let gpu = Arc::new(Gpu::open(gpu_options).unwrap());
        for shape_text in shapes {
            for options in &variants {
                let what = format!("{shape_text} {options:?} {gpu_options:?}");
                let plan = Engine::plan(&shape(shape_text), options, &device).unwrap();
                let engine = load(shape(shape_text), &gpu, options).unwrap();
                assert_eq!(plan, engine.memory_plan(), "{what}");
                for group in MemoryGroup::ALL {
                    assert_eq!(plan.group_bytes(group), gpu.ledger().bytes(group), "{what}: {group:?}");
                }
                // With the exact budget it loads, with one byte less it does not.
                let exact = |bytes| ModelOptions { memory_budget: Some(bytes), ..options.clone() };
                let total = plan.total_bytes();
                assert_eq!(Engine::plan(&shape(shape_text), &exact(total), &device).unwrap(), plan);
                plan_fails(&shape(shape_text), &exact(total - 1), &device);
                drop(engine);
                assert_eq!(gpu.ledger().total_bytes(), 0);
            }
        }
    }
}

#[test]
fn the_plan_of_a_host_adapter_equals_that_of_its_device() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter =
        pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default())).unwrap();
    let mut descriptor = wgpu::DeviceDescriptor::default();
    wgpt::required(&adapter).add_to(&mut descriptor);
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    let preview = DevicePreview::of_adapter(&adapter, &GpuOptions::default()).unwrap();
    let gpu = Gpu::from_host(wgpt::GpuContext::from_host(adapter, device, queue)).unwrap();
    let files = ModelFiles::open(&golden("gpt2-tiny")).unwrap();
    let options = ModelOptions::default();
    let plan = Engine::plan(&files, &options, &preview).unwrap();
    let gpu = Arc::new(gpu);
    assert_eq!(plan, Engine::plan(&files, &options, &gpu.preview()).unwrap());
    let engine = load(files, &gpu, &options).unwrap();
    assert_eq!((plan.total_bytes(), plan), (gpu.ledger().total_bytes(), engine.memory_plan()));
}

#[test]
fn an_exceeded_budget_allocates_nothing_and_proposals_fit() {
    let gpu = Arc::new(Gpu::open(&files::gpu()).unwrap());
    let device = gpu.preview();
    let text = "n_layer=4,n_embd=64,n_head=4,n_inner=256,vocab_size=500,n_positions=512";
    let f32 = ModelOptions { dtype: DType::F32, kv_dtype: DType::F32, ..ModelOptions::default() };
    let total = Engine::plan(&shape(text), &f32, &device).unwrap().total_bytes();
    let mut seen = Vec::new();
    for percent in [99, 90, 80, 70, 60, 50, 40, 35, 30, 25, 20, 15, 10, 5] {
        let options = ModelOptions { memory_budget: Some(total * percent / 100), ..f32.clone() };
        let buffers = gpu.counters().buffers;
        let Err(Error::Budget(over)) = load(shape(text), &gpu, &options) else {
            panic!("{percent} % was loaded");
        };
        assert_eq!((gpu.counters().buffers, gpu.ledger().peak_bytes() > 0), (buffers, buffers > 0));
        assert_eq!((over.plan.total_bytes(), over.budget_bytes), (total, total * percent / 100));
        let message = Error::Budget(over.clone()).to_string();
        assert!(message.contains(&total.to_string()), "{message}");
        for fit in &over.fits {
            let mut changed = options.clone();
            for change in &fit.changes {
                assert!(message.contains(&change.to_string()), "{message}");
                match *change {
                    Change::Context(n) => changed.n_ctx = Some(n),
                    Change::KvDtype(dtype) => changed.kv_dtype = dtype,
                    Change::PrefillChunk(n) => changed.prefill_chunk = n,
                    Change::Dtype(dtype) => changed.dtype = dtype,
                }
            }
            let plan = Engine::plan(&shape(text), &changed, &device).unwrap();
            assert_eq!(plan.total_bytes(), fit.total_bytes, "{fit}");
            // One more position would not fit.
            if let Some(n_ctx) = changed.n_ctx {
                plan_fails(&shape(text), &ModelOptions { n_ctx: Some(n_ctx + 1), ..changed }, &device);
            }
            seen.push((fit.changes.len() > 1, std::mem::discriminant(&fit.changes[0])));
        }
        if over.fits.is_empty() {
            assert!(over.least_bytes > over.budget_bytes && message.contains("nothing less"), "{message}");
        } else {
            assert!(over.least_bytes <= over.budget_bytes, "{message}");
        }
    }
    // Every kind of proposal occurred, and also several changes at once.
    let alone =
        [Change::Context(0), Change::KvDtype(DType::F16), Change::PrefillChunk(0), Change::Dtype(DType::F16)];
    for change in alone {
        assert!(seen.contains(&(false, std::mem::discriminant(&change))), "{change}: {seen:?}");
    }
    assert!(seen.iter().any(|(several, _)| *several), "{seen:?}");
    assert_eq!(gpu.ledger().total_bytes(), 0);
}

fn prefilled(engine: &Engine, n: usize) -> wgpt::Result<Session> {
    let mut session = engine.session();
    session.prefill(&(0..n as u32).map(|i| i * 7 % 500).collect::<Vec<_>>())?;
    Ok(session)
}

#[test]
fn the_cache_grows_only_within_the_budget() {
    let text = "n_layer=2,n_embd=64,n_head=4,n_inner=128,vocab_size=500,n_positions=128";
    // One slab, and several slabs of eight pages.
    for max_binding_bytes in [None, Some(32 << 10)] {
        let gpu = Arc::new(Gpu::open(&GpuOptions { max_binding_bytes, ..files::gpu() }).unwrap());
        let options = ModelOptions { prefill_chunk: 16, ..ModelOptions::default() };
        let plan = Engine::plan(&shape(text), &options, &gpu.preview()).unwrap();
        // 2 layers of 4 heads of 16, keys and values in f16, 16 positions.
        let page_bytes = 2 * 4 * 16 * 2 * 16 * 2;
        for more_pages in [0, 8, 9, 11, 20] {
            let budget = plan.total_bytes() + more_pages * page_bytes;
            let options = ModelOptions { memory_budget: Some(budget), ..options.clone() };
            let engine = load(shape(text), &gpu, &options).unwrap();
            let mut sessions = vec![prefilled(&engine, 128).unwrap()];
            let refused = loop {
                match prefilled(&engine, 16) {
                    Ok(session) => sessions.push(session),
                    Err(error) => break error,
                }
                assert!(sessions.len() < 50, "the budget has no effect");
            };
            let message = refused.to_string();
            assert!(matches!(refused, Error::Limits(_)), "{message}");
            assert!(message.contains(&budget.to_string()) && message.contains("budget"), "{message}");
            let ledger = gpu.ledger();
            // A pool of one slab grows by copying all its pages.
            let grew = engine.kv_pages().1 > 8;
            let can_grow = more_pages > 8 || (more_pages > 0 && max_binding_bytes.is_some());
            assert_eq!(grew, can_grow, "{more_pages} {max_binding_bytes:?}");
            assert!(ledger.total_bytes() <= budget);
            // All existing pages were in use, and the existing sessions continue.
            assert_eq!(engine.kv_pages().0, engine.kv_pages().1);
            sessions.pop();
            prefilled(&engine, 16).unwrap();
            drop(sessions);
            assert_eq!(ledger.total_bytes(), plan.total_bytes(), "the pool shrinks when nothing is held");
            drop(engine);
        }
        // The peak of all these engines, growth included, was within the largest budget.
        assert!(gpu.ledger().peak_bytes() <= plan.total_bytes() + 20 * page_bytes);
    }
}
