//! Makes each allocation in turn fail with out of memory, and each call of a step lose
//! the device.

use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use wgpt::internals::gpu::{Call, Fault};
use wgpt::internals::model::random;
use wgpt::{Engine, ErrorKind, Gpu, GpuOptions, ModelFiles, ModelOptions, Result, Session};

use super::{deterministic, faulty_gpu};
use crate::support;

const TOKENS: [u32; 20] = [5; 20];

fn load(gpu: &Arc<Gpu>, options: &ModelOptions) -> Result<Engine> {
    static FILES: LazyLock<Arc<ModelFiles>> = LazyLock::new(|| {
        let shape = "n_layer=2,n_embd=32,n_head=2,n_inner=128,vocab_size=300,n_positions=64";
        Arc::new(ModelFiles::random(random::shape(shape).unwrap(), 7).unwrap())
    });
    Engine::load(Arc::clone(&FILES), Arc::clone(gpu), options, &mut |_| ControlFlow::Continue(()))
}

#[test]
fn any_allocation_of_a_load_may_fail() {
    let (gpu, faults) = faulty_gpu();
    let options = ModelOptions { steps_ahead: Some(4), ..ModelOptions::default() };
    drop(load(&gpu, &options).unwrap());
    let before = faults.calls(Call::Allocate);
    drop(load(&gpu, &options).unwrap());
    let n = faults.calls(Call::Allocate) - before;
    assert!(n > 40, "{n} allocations");
    for after in 0..n {
        faults.inject(Call::Allocate, after, Fault::OutOfMemory);
        let Err(error) = load(&gpu, &options) else { panic!("allocation {after} of {n} was not needed") };
        assert_eq!((error.kind(), faults.clear()), (ErrorKind::OutOfMemory, 0), "{after}: {error}");
        assert_eq!(gpu.ledger().total_bytes(), 0, "{after}");
    }
    let engine = load(&gpu, &options).unwrap();
    assert_eq!(engine.session().advance(&TOKENS).unwrap().len(), 300);
}

/// Something a session can do, and its result.
type Act = fn(&mut Session) -> Result<Vec<f32>>;

#[test]
fn a_step_survives_a_device_loss_at_any_call() {
    let acts: [(&str, Act); 4] = [
        ("advance", |session| session.advance(&[3]).map(<[f32]>::to_vec)),
        ("greedy", |session| session.advance_greedy(&[3]).map(|token| vec![token as f32])),
        ("score", |session| session.score(&[3, 4])),
        ("step", |session| {
            session.feed(&[3])?;
            while !session.step(wgpt::Budget::millis(1))?.done {}
            Ok(session.logits().unwrap().to_vec())
        }),
    ];
    let (gpu, mut faults) = faulty_gpu();
    let engine = load(&gpu, &deterministic()).unwrap();
    let mut session = engine.session();
    session.prefill(&TOKENS).unwrap();
    let mut happened = 0;
    for (name, act) in acts {
        let expected = act(&mut session).unwrap();
        session.truncate(TOKENS.len());
        for call in [Call::Submit, Call::Wait, Call::Map] {
            for fault in [Fault::Loss, Fault::Panic] {
                for after in 0..3 {
                    faults.inject(call, after, fault);
                    let result = act(&mut session);
                    if faults.clear() > 0 {
                        assert_eq!(result.unwrap(), expected, "{name} {call:?} {after}");
                        session.truncate(TOKENS.len());
                        continue;
                    }
                    happened += 1;
                    let kind = result.unwrap_err().kind();
                    assert_eq!(kind, ErrorKind::DeviceLost, "{name} {call:?} {fault:?} {after}");
                    assert_eq!(session.tokens(), TOKENS);
                    let next = faulty_gpu();
                    engine.rebind(next.0).unwrap();
                    faults = next.1;
                    assert_eq!(act(&mut session).unwrap(), expected, "{name} {call:?} {fault:?} {after}");
                    session.truncate(TOKENS.len());
                }
            }
        }
    }
    assert!(happened >= 36, "{happened}");
}

#[test]
fn a_device_loss_during_a_rebind_leaves_the_engine_in_place() {
    let engine = load(&Arc::new(support::open_gpu(GpuOptions::default())), &deterministic()).unwrap();
    let mut session = engine.session();
    let expected = session.advance(&TOKENS).unwrap().to_vec();
    let here = engine.gpu();
    for call in Call::ALL {
        let (gpu, faults) = faulty_gpu();
        faults.inject(call, 2, Fault::Loss);
        assert_eq!(engine.rebind(gpu).unwrap_err().kind(), ErrorKind::DeviceLost, "{call:?}");
        assert!(Arc::ptr_eq(&engine.gpu(), &here));
        session.truncate(TOKENS.len() - 1);
        assert_eq!(session.advance(&TOKENS[19..]).unwrap(), expected, "{call:?}");
    }
}
