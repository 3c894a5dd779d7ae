//! Building an engine: its phases, every way to end it, every source of a device.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use wgpt::internals::model::{Decoder, random};
use wgpt::{
    Background, CancelFlag, Engine, EngineBuilder, Error, ErrorKind, Generation, GenerationStream, Gpu,
    GpuOptions, LoadPhase, ModelFiles, Session,
};

use super::executor::{self, Wakes, poll_once, wait_until};
use super::host::Host;
use crate::support;

/// Returns the config of a model with two small layers.
fn config() -> Decoder {
    random::shape("n_layer=2,n_embd=32,n_head=2,n_inner=128,vocab_size=300,n_positions=64").unwrap()
}

fn open() -> Arc<Gpu> {
    Arc::new(support::open_gpu(GpuOptions::default()))
}

fn builder(gpu: &Arc<Gpu>) -> EngineBuilder {
    static FILES: LazyLock<Arc<ModelFiles>> =
        LazyLock::new(|| Arc::new(ModelFiles::random(config(), 7).unwrap()));
    Engine::builder().files(Arc::clone(&FILES)).gpu(Arc::clone(gpu))
}

/// Returns the phase of each report of a load.
fn reports(builder: &EngineBuilder) -> Vec<LoadPhase> {
    let mut phases = Vec::new();
    let engine = builder.build_with(&mut |progress| {
        phases.push(progress.phase);
        ControlFlow::Continue(())
    });
    engine.unwrap();
    assert_eq!(phases.iter().copied().collect::<HashSet<_>>(), HashSet::from(LoadPhase::ALL));
    phases
}

/// Checks that nothing is left of a load.
fn check_released(gpu: &Arc<Gpu>, what: &str) {
    assert_eq!(gpu.ledger().total_bytes(), 0, "{what}");
    assert_eq!(Arc::strong_count(gpu), 1, "{what}: something still holds the device");
}

fn check_works(engine: &Engine) {
    assert_eq!(engine.session().advance(&[1, 2, 3]).unwrap().len(), engine.vocab_size());
}

#[test]
fn engines_sessions_and_texts_can_cross_threads() {
    fn send<T: Send + 'static>() {}
    fn sync<T: Sync + Clone>() {}
    fn unpin<T: Unpin>() {}
    send::<Engine>();
    sync::<Engine>();
    send::<EngineBuilder>();
    sync::<EngineBuilder>();
    send::<Session>();
    send::<Generation>();
    send::<GenerationStream>();
    unpin::<GenerationStream>();
    send::<Background<Engine>>();
    unpin::<Background<Engine>>();
}

#[test]
fn a_break_or_a_flag_at_any_report_releases_everything() {
    let gpu = open();
    let builder = builder(&gpu);
    let n = reports(&builder).len();
    drop(builder);
    for stop_at in 0..n {
        for by_flag in [false, true] {
            let flag = CancelFlag::default();
            let mut seen = 0;
            let result = self::builder(&gpu).cancel(flag.clone()).build_with(&mut |_| {
                seen += 1;
                match seen > stop_at {
                    true if by_flag => flag.store(true, Ordering::Relaxed),
                    true => return ControlFlow::Break(()),
                    false => {}
                }
                ControlFlow::Continue(())
            });
            assert!(matches!(result, Err(Error::Cancelled)), "report {stop_at} of {n}");
            assert_eq!(seen, stop_at + 1, "nothing is reported after the end");
            check_released(&gpu, &format!("report {stop_at} of {n}, by the flag: {by_flag}"));
        }
    }
    check_works(&self::builder(&gpu).build().unwrap());
}

#[test]
fn a_time_limit_ends_any_phase_and_releases_everything() {
    let gpu = open();
    let limit = Duration::from_millis(500);
    for phase in LoadPhase::ALL {
        let deadline = Instant::now() + limit;
        let result = builder(&gpu).timeout(limit).build_with(&mut |progress| {
            if progress.phase == phase {
                std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                std::thread::sleep(Duration::from_millis(20));
            }
            ControlFlow::Continue(())
        });
        let error = result.err().unwrap();
        assert!(matches!(error, Error::Timeout), "{phase:?}: {error}");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        check_released(&gpu, &format!("{phase:?}"));
    }
    let mut seen = 0;
    let result = builder(&gpu).timeout(Duration::ZERO).build_with(&mut |_| {
        seen += 1;
        ControlFlow::Continue(())
    });
    assert!(matches!(result, Err(Error::Timeout)) && seen == 1, "{seen} reports");
    check_works(&builder(&gpu).timeout(Duration::MAX).build().unwrap());
}

#[test]
fn a_future_dropped_at_any_report_releases_everything() {
    let gpu = open();
    let n = reports(&builder(&gpu)).len();
    for drop_at in 0..n {
        let (report_sender, report_receiver) = channel();
        let (sender, receiver) = channel();
        let mut seen = 0;
        let mut future = builder(&gpu).build_async_with(move |_| {
            if seen == drop_at {
                report_sender.send(()).unwrap();
                receiver.recv().unwrap();
            }
            seen += 1;
            ControlFlow::Continue(())
        });
        assert!(poll_once(&mut future).is_pending());
        report_receiver.recv().unwrap();
        drop(future);
        sender.send(()).unwrap();
        wait_until("the load's thread releases the device", || Arc::strong_count(&gpu) == 1);
        check_released(&gpu, &format!("report {drop_at} of {n}"));
    }
    let engine = pollster::block_on(builder(&gpu).build_async()).unwrap();
    check_works(&engine);
}

#[test]
fn stopping_a_future_waits_for_its_end() {
    let gpu = open();
    let mut unpolled = builder(&gpu).build_async();
    // Stopped after a first poll; below, stopped without any poll.
    for _ in 0..3 {
        let mut future = builder(&gpu).build_async();
        assert!(poll_once(&mut future).is_pending());
        future.stop();
        assert_eq!(gpu.ledger().total_bytes(), 0);
    }
    assert!(poll_once(&mut unpolled).is_pending());
    unpolled.stop();
    builder(&gpu).build_async().stop();
    check_released(&gpu, "stopped");
}

#[test]
fn wgpu_frees_the_memory_of_a_stopped_load() {
    let host = Host::with_required();
    // `None` on APIs whose driver manages memory itself (Metal).
    let allocated = || host.device.generate_allocator_report().map(|report| report.total_allocated_bytes);
    let gpu = Arc::new(Gpu::from_host(host.context()).unwrap());
    let phases = reports(&builder(&gpu));
    gpu.flush().unwrap();
    let before = allocated();
    for phase in LoadPhase::ALL {
        let stop_at = phases.iter().rposition(|&other| other == phase).unwrap();
        let mut seen = 0;
        let result = builder(&gpu).build_with(&mut |_| {
            seen += 1;
            if seen > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(allocated(), before, "{phase:?}");
    }
}

#[test]
fn a_panicking_callback_does_no_harm() {
    let gpu = open();
    let n = reports(&builder(&gpu)).len();
    for panic_at in [0, 3, n / 2, n - 1] {
        let mut seen = 0;
        let callback = move |_| {
            assert!(seen != panic_at, "the callback's own fault");
            seen += 1;
            ControlFlow::Continue(())
        };
        let blocking = catch_unwind(AssertUnwindSafe(|| builder(&gpu).build_with(&mut callback.clone())));
        assert!(blocking.is_err());
        check_released(&gpu, "blocking");
        let future = builder(&gpu).build_async_with(callback);
        assert!(catch_unwind(AssertUnwindSafe(|| pollster::block_on(future))).is_err());
        check_released(&gpu, "a future");
    }
    check_works(&builder(&gpu).build().unwrap());
}

#[test]
fn a_future_wakes_the_last_poller() {
    let gpu = open();
    // Two polls: the first one, and the one after the wake.
    let (engine, polls) = executor::run(builder(&gpu).build_async());
    check_works(&engine.unwrap());
    assert!(polls <= 2, "{polls} polls");

    let (sender, receiver) = channel::<()>();
    let mut future = builder(&gpu).build_async_with(move |_| {
        // Returns when the test drops the sender to let the load continue.
        let _ = receiver.recv();
        ControlFlow::Continue(())
    });
    let (first, second) = (Wakes::new(), Wakes::new());
    let mut poll = |wakes: &Arc<Wakes>| {
        let waker = Waker::from(Arc::clone(wakes));
        std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker))
    };
    assert!(poll(&first).is_pending() && poll(&second).is_pending());
    drop(sender);
    second.wait_beyond(0);
    assert_eq!((first.count(), second.count()), (0, 1));
    assert!(matches!(poll(&first), Poll::Ready(Ok(_))));
}

#[test]
fn a_builder_accepts_any_source_of_a_device() {
    let files = Arc::new(ModelFiles::random(config(), 7).unwrap());
    let builder = Engine::builder().files(Arc::clone(&files));
    let device = std::env::var("WGPT_DEVICE").ok().filter(|device| !device.is_empty());
    let options = GpuOptions { device, ..GpuOptions::default() };
    let host = Host::with_required();
    let shared = open();
    for builder in [
        builder.clone().gpu(options),
        builder.clone().gpu(host.context()),
        builder.clone().gpu(Arc::clone(&shared)),
        builder.clone().gpu(support::open_gpu(GpuOptions::default())),
    ] {
        // A builder can be used more than once.
        check_works(&builder.build().unwrap());
        check_works(&builder.build().unwrap());
    }
    let engines = [(); 2].map(|()| builder.clone().gpu(Arc::clone(&shared)).build().unwrap());
    assert!(engines.iter().all(|engine| Arc::ptr_eq(&engine.gpu(), &shared)));
    // The last model named counts.
    let engine = Engine::builder().model("no such directory").files(files).gpu(shared).build().unwrap();
    assert_eq!(engine.vocab_size(), 300);
}

#[test]
fn a_raised_flag_ends_a_load_before_anything_is_opened() {
    let flag = Arc::new(AtomicBool::new(true));
    let result = Engine::builder().model("no such directory").cancel(flag).build();
    assert!(matches!(result, Err(Error::Cancelled)));
}
