//! The host application's device: shared, not disturbed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use wgpt::{Engine, Error, Gpu, GpuContext, GpuOptions, ModelFiles, OutputRows, wgpu};

use super::{deterministic, load};
use crate::support;

/// The wgpu objects of a host application.
pub(super) struct Host {
    adapter: wgpu::Adapter,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    uncaptured: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn open(ask: impl FnOnce(&wgpu::Adapter, &mut wgpu::DeviceDescriptor<'_>)) -> Host {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let wanted = Gpu::open(&GpuOptions::default()).expect("an adapter").report().name.clone();
        let adapter = adapters.into_iter().find(|adapter| adapter.get_info().name == wanted).unwrap();
        let mut descriptor = wgpu::DeviceDescriptor { label: Some("host"), ..Default::default() };
        ask(&adapter, &mut descriptor);
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let uncaptured = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&uncaptured);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.lock().unwrap().push(error.to_string());
        }));
        Host { adapter, device, queue, uncaptured }
    }

    pub(super) fn with_required() -> Host {
        Host::open(|adapter, descriptor| wgpt::required(adapter).add_to(descriptor))
    }

    pub(super) fn context(&self) -> GpuContext {
        let Host { adapter, device, queue, .. } = self;
        GpuContext::from_host(adapter.clone(), device.clone(), queue.clone())
    }

    fn engine(&self) -> Engine {
        let gpu = Arc::new(Gpu::from_host(self.context()).unwrap());
        load(&gpu, &deterministic()).unwrap()
    }

    /// Causes a validation error in the host's own work.
    fn blunder(&self) {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false };
        drop(self.device.create_buffer(&descriptor));
    }

    fn read(&self, source: &wgpu::Buffer, bytes: u64) -> Vec<f32> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(source, 0, &staging, 0, bytes);
        self.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., Result::unwrap);
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        let view = staging.get_mapped_range(..).unwrap();
        bytemuck::cast_slice(&view).to_vec()
    }
}

const TOKENS: [u32; 21] = [5; 21];

fn own_logits() -> Vec<f32> {
    let engine = load(&Arc::new(support::open_gpu(GpuOptions::default())), &deterministic()).unwrap();
    engine.session().advance(&TOKENS).unwrap().to_vec()
}

#[test]
fn the_hosts_device_gives_the_same_results() {
    let host = Host::with_required();
    let engine = host.engine();
    assert_eq!(engine.session().advance(&TOKENS).unwrap(), own_logits());
    assert_eq!(engine.gpu().report().name, host.adapter.get_info().name);
    assert!(host.uncaptured.lock().unwrap().is_empty());
}

#[test]
fn a_device_without_features_works_too() {
    let host = Host::open(|_, _| {});
    assert!(host.device.features().is_empty());
    let gap = host
        .engine()
        .session()
        .advance(&TOKENS)
        .unwrap()
        .iter()
        .zip(own_logits())
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(gap <= support::GREEDY_BOUND, "{gap}");
}

#[test]
fn the_error_of_an_unsuitable_device_lists_what_it_lacks() {
    let host = Host::open(|_, descriptor| {
        descriptor.required_limits.max_storage_buffers_per_shader_stage = 4;
        descriptor.required_limits.max_compute_invocations_per_workgroup = 128;
    });
    let Err(error) = Gpu::from_host(host.context()) else { panic!("taken") };
    let text = error.to_string();
    assert!(matches!(error, Error::Limits(_)), "{text}");
    for part in
        ["max_storage_buffers_per_shader_stage: has 4, needs 8", "has 128, needs 256", "wgpt::required"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn models_are_split_for_small_buffers() {
    let host = Host::open(|_, descriptor| {
        descriptor.required_limits.max_storage_buffer_binding_size = 1 << 20;
        descriptor.required_limits.max_buffer_size = 1 << 20;
    });
    let gap = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let found = gap(host.engine().session().advance(&TOKENS).unwrap(), &own_logits());
    assert!(found <= support::GREEDY_BOUND, "{found}");
}

#[test]
fn the_hosts_scopes_and_handler_see_only_the_hosts_faults() {
    let host = Host::with_required();
    let engine = host.engine();
    let scope = host.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let mut session = engine.session();
    session.prefill(&TOKENS).unwrap();
    // More positions than the context holds: a typed error of wgpt.
    assert!(session.prefill(&vec![1; engine.n_ctx()]).is_err());
    assert!(pollster::block_on(scope.pop()).is_none());

    let scope = host.device.push_error_scope(wgpu::ErrorFilter::Validation);
    host.blunder();
    session.advance(&[1]).unwrap();
    assert!(pollster::block_on(scope.pop()).is_some(), "the host's own fault reaches its scope");

    host.blunder();
    session.advance(&[2]).unwrap();
    assert_eq!(host.uncaptured.lock().unwrap().len(), 1);
}

#[test]
fn a_host_that_polls_and_submits_disturbs_nothing() {
    let host = Host::with_required();
    let engine = host.engine();
    let expected = own_logits();
    let (stop, submits) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut encoder = host.device.create_command_encoder(&Default::default());
                encoder.begin_compute_pass(&Default::default());
                host.queue.submit([encoder.finish()]);
                host.device.poll(wgpu::PollType::Poll).unwrap();
                submits.fetch_add(1, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        for _ in 0..10 {
            let mut session = engine.session();
            session.prefill(&TOKENS[..20]).unwrap();
            assert_eq!(session.advance(&TOKENS[20..]).unwrap(), expected);
        }
        // On a busy machine the other thread may start late.
        while submits.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn outputs_stay_on_the_hosts_device() {
    let host = Host::with_required();
    let engine = host.engine();
    let mut plain = engine.session();
    let mut rows = Vec::new();
    plain
        .advance_each(&TOKENS, |_, logits| {
            rows.push(logits.to_vec());
            Ok(())
        })
        .unwrap();

    let mut session = engine.session();
    let mut last = Vec::new();
    let read_last = |outputs: &wgpt::GpuOutputs<'_>| {
        assert_eq!((outputs.n_rows(), outputs.first_row()), (1, TOKENS.len() - 1));
        last = host.read(outputs.logits(), 4 * outputs.vocab_size() as u64);
        Ok(())
    };
    session.advance_on_gpu(&TOKENS, OutputRows::Last, read_last).unwrap();
    assert_eq!(&last, rows.last().unwrap());

    // Logits are the head's matrix times the hidden states.
    let files = ModelFiles::demo().unwrap();
    let info = files.checkpoint().tensors().iter().find(|info| info.name.ends_with("wte.weight")).unwrap();
    let (vocab, n_embd) = (info.shape[0], info.shape[1]);
    let mut wte = vec![0.0; vocab * n_embd];
    files.checkpoint().reader().read_block(info, 0..vocab, 0..n_embd, &mut wte).unwrap();
    let mut session = engine.session();
    let mut seen = 0;
    session
        .advance_on_gpu(&TOKENS, OutputRows::All, |outputs| {
            assert_eq!((outputs.first_row(), outputs.n_embd()), (seen, n_embd));
            let n = outputs.n_rows();
            let hidden = host.read(outputs.hidden(), 4 * (n * outputs.hidden_stride()) as u64);
            let logits = host.read(outputs.logits(), 4 * (n * outputs.logits_stride()) as u64);
            for row in 0..n {
                let x = &hidden[row * outputs.hidden_stride()..][..n_embd];
                let y = &logits[row * outputs.logits_stride()..][..vocab];
                assert_eq!(y, rows[seen + row]);
                for token in [0, 1, vocab / 2, vocab - 1] {
                    let w = &wte[token * n_embd..][..n_embd];
                    let dot: f64 = w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                    assert!((dot - f64::from(y[token])).abs() < 1e-3, "{dot} {}", y[token]);
                }
            }
            seen += n;
            Ok(())
        })
        .unwrap();
    assert_eq!((seen, session.len()), (TOKENS.len(), TOKENS.len()));
}

#[test]
fn the_host_can_report_a_device_loss() {
    let host = Host::with_required();
    let context = host.context();
    let signal = context.loss_signal();
    let engine = load(&Arc::new(Gpu::from_host(context).unwrap()), &deterministic()).unwrap();
    let mut session = engine.session();
    let expected = session.advance(&TOKENS).unwrap().to_vec();
    session.truncate(TOKENS.len() - 1);
    signal.lost("the cable came off");
    let error = session.advance(&TOKENS[20..]).unwrap_err();
    assert!(matches!(&error, Error::DeviceLost { message } if message.contains("cable")), "{error}");

    // A loss that nobody reports is found at the next readback.
    let host = Host::with_required();
    engine.rebind(Gpu::from_host(host.context()).unwrap()).unwrap();
    assert_eq!(session.advance(&TOKENS[20..]).unwrap(), expected);
    session.truncate(TOKENS.len() - 1);
    host.device.destroy();
    let error = session.advance(&TOKENS[20..]).unwrap_err();
    assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
    engine.rebind(support::open_gpu(GpuOptions::default())).unwrap();
    assert_eq!(session.advance(&TOKENS[20..]).unwrap(), expected);
}
