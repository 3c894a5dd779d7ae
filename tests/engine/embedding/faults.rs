//! Injects faults at every kind of call: each becomes a typed error, and whatever can
//! continue does.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use wgpt::internals::gpu::{Call, Fault};
use wgpt::{
    Engine, Error, ErrorKind, GenerateOptions, Gpu, LoadPhase, ModelFiles, ModelOptions, SamplingParams,
    Session,
};

use super::{deterministic, faulty_gpu, load};

const TOKENS: [u32; 40] = [7; 40];

/// Returns the kind of error that a fault in a call must become.
fn expected(call: Call, fault: Fault) -> ErrorKind {
    match fault {
        Fault::Loss => ErrorKind::DeviceLost,
        Fault::OutOfMemory => ErrorKind::OutOfMemory,
        Fault::Validation => ErrorKind::Other,
        // A panic of the compiler does not affect the device.
        Fault::Panic if call == Call::Compile => ErrorKind::Other,
        Fault::Panic => ErrorKind::DeviceLost,
    }
}

const FAULTS: [Fault; 4] = [Fault::Validation, Fault::OutOfMemory, Fault::Panic, Fault::Loss];

#[test]
fn a_fault_while_loading_is_typed_and_releases_everything() {
    for call in Call::ALL {
        for fault in FAULTS {
            let (gpu, faults) = faulty_gpu();
            faults.inject(call, 1, fault);
            let error =
                load(&gpu, &ModelOptions::default()).err().unwrap_or_else(|| panic!("{call:?} {fault:?}"));
            assert_eq!(error.kind(), expected(call, fault), "{call:?} {fault:?}: {error}");
            assert_eq!((faults.clear(), gpu.ledger().total_bytes()), (0, 0), "{call:?} {fault:?}");
            let lost = expected(call, fault) == ErrorKind::DeviceLost;
            assert_eq!(gpu.loss().is_some(), lost, "{call:?} {fault:?}");
            let again = load(&gpu, &ModelOptions::default());
            match again {
                Ok(_) => assert!(!lost),
                Err(error) => assert!(lost && error.kind() == ErrorKind::DeviceLost, "{error}"),
            }
        }
    }
}

/// The kinds of calls that a running session makes.
const RUNNING: [Call; 3] = [Call::Submit, Call::Wait, Call::Map];

#[test]
fn a_fault_while_running_leaves_the_session_unchanged() {
    let (gpu, faults) = faulty_gpu();
    let engine = load(&gpu, &deterministic()).unwrap();
    let mut plain = engine.session();
    plain.prefill(&TOKENS).unwrap();
    let expected_logits = plain.advance(&[3]).unwrap().to_vec();
    let mut session = engine.session();
    session.prefill(&TOKENS).unwrap();
    let pages = engine.kv_pages();
    for call in RUNNING {
        let mut happened = 0;
        for fault in [Fault::Validation, Fault::OutOfMemory] {
            // The first, second and third call of this kind within a step.
            for after in 0..3 {
                faults.inject(call, after, fault);
                let result = session.advance(&[3]).map(<[f32]>::to_vec);
                if faults.clear() > 0 {
                    // The step makes fewer calls of this kind.
                    assert_eq!(result.unwrap(), expected_logits, "{call:?} {fault:?} {after}");
                    session.truncate(TOKENS.len());
                    continue;
                }
                happened += 1;
                assert_eq!(result.unwrap_err().kind(), expected(call, fault), "{call:?} {fault:?} {after}");
                assert_eq!((session.len(), engine.kv_pages()), (TOKENS.len(), pages));
                assert_eq!(session.advance(&[3]).unwrap(), expected_logits, "{call:?} {fault:?} {after}");
                session.truncate(TOKENS.len());
            }
        }
        assert!(happened >= 2, "{call:?}: {happened}");
    }
}

#[test]
fn faults_in_scores_batches_and_texts_leave_the_engine_usable() {
    let (gpu, faults) = faulty_gpu();
    for steps_ahead in [0, 4] {
        let options = ModelOptions { steps_ahead: Some(steps_ahead), ..ModelOptions::default() };
        let engine = load(&gpu, &options).unwrap();
        let mut sessions: Vec<Session> = (0..3).map(|_| engine.session()).collect();
        sessions.iter_mut().for_each(|session| session.prefill(&TOKENS).unwrap());
        let greedy = |prompt_lookup| GenerateOptions {
            sampling: SamplingParams::greedy(),
            prompt_lookup,
            max_new_tokens: Some(12),
            ignore_eos: true,
            ..GenerateOptions::default()
        };
        let tokens =
            |generation: &mut wgpt::Generation| generation.by_ref().try_for_each(|piece| piece.map(|_| ()));
        let mut plain = engine.generate_tokens(&TOKENS, greedy(None)).unwrap();
        tokens(&mut plain).unwrap();
        let mut happened = 0;
        for call in RUNNING {
            for after in 0..4 {
                let mut refs: Vec<&mut Session> = sessions.iter_mut().collect();
                faults.inject(call, after, Fault::Validation);
                let mut next = Vec::new();
                let step = engine.step_greedy(&mut refs, &[1, 2, 3], &mut next);
                happened += usize::from(step.is_err());
                assert_eq!(step.is_err(), faults.clear() == 0);
                refs.iter_mut().for_each(|session| session.truncate(TOKENS.len()));

                faults.inject(call, after, Fault::OutOfMemory);
                let score = refs[0].score(&[5, 6, 7]);
                assert_eq!(score.is_err(), faults.clear() == 0);
                refs[0].truncate(TOKENS.len());
                assert_eq!(refs[0].score(&[5, 6, 7]).unwrap().len(), 3);
                refs[0].truncate(TOKENS.len());

                // After a failure, a text continues with the token that failed.
                for lookup in [None, Some(3)] {
                    let mut text = engine.generate_tokens(&TOKENS, greedy(lookup)).unwrap();
                    text.next().unwrap().unwrap();
                    faults.inject(call, after, Fault::Validation);
                    while let Err(error) = tokens(&mut text) {
                        assert!(matches!(error, Error::Gpu { .. }), "{error}");
                        happened += 1;
                        text.resume();
                    }
                    faults.clear();
                    let case = format!("{call:?} {after}, {steps_ahead} ahead, {lookup:?}");
                    assert_eq!(text.tokens(), plain.tokens(), "{case}");
                }
            }
        }
        assert!(happened > 8, "{happened}");
    }
}

#[test]
fn a_pool_that_cannot_grow_leaks_nothing() {
    let (gpu, faults) = faulty_gpu();
    let engine = load(&gpu, &ModelOptions::default()).unwrap();
    let full = vec![1; engine.n_ctx()];
    let mut first = engine.session();
    first.prefill(&full).unwrap();
    let (bytes, mut second) = (gpu.ledger().total_bytes(), engine.session());
    // Both attempts fail: to double the pages, and to add only the needed ones.
    faults.inject(Call::Allocate, 0, Fault::OutOfMemory);
    faults.inject(Call::Allocate, 1, Fault::OutOfMemory);
    let error = second.prefill(&[1]).unwrap_err();
    assert_eq!((error.kind(), faults.clear()), (ErrorKind::OutOfMemory, 0), "{error}");
    assert!(error.to_string().contains("kv slab"), "{error}");
    assert_eq!(gpu.ledger().total_bytes(), bytes);
    second.prefill(&[1]).unwrap();
    assert_eq!(first.len(), full.len());
}

#[test]
fn callbacks_may_panic() {
    let (gpu, _) = faulty_gpu();
    for phase in [LoadPhase::Compile, LoadPhase::WarmUp] {
        let load = catch_unwind(AssertUnwindSafe(|| {
            Engine::load(ModelFiles::demo().unwrap(), Arc::clone(&gpu), &deterministic(), &mut |progress| {
                assert!(progress.phase != phase, "the callback's own fault");
                ControlFlow::Continue(())
            })
        }));
        assert!(load.is_err());
        assert_eq!(gpu.ledger().total_bytes(), 0, "{phase:?}");
    }
    let engine = load(&gpu, &deterministic()).unwrap();
    let mut session = engine.session();
    let step = catch_unwind(AssertUnwindSafe(|| {
        session.advance_on_gpu(&TOKENS, wgpt::OutputRows::Last, |_| panic!("the host's own fault"))
    }));
    assert!(step.is_err());
    let after = session.advance(&[3]).unwrap().to_vec();
    let mut plain = engine.session();
    plain.prefill(&TOKENS).unwrap();
    assert_eq!(plain.advance(&[3]).unwrap(), after);
}

#[test]
fn a_session_behind_a_mutex_serves_two_threads() {
    let (gpu, _) = faulty_gpu();
    let engine = load(&gpu, &deterministic()).unwrap();
    let session = std::sync::Mutex::new(engine.session());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..20).for_each(|_| session.lock().unwrap().prefill(&[9]).unwrap()));
        }
    });
    let mut plain = engine.session();
    plain.prefill(&[9; 40]).unwrap();
    let mut session = session.into_inner().unwrap();
    assert_eq!(session.tokens(), plain.tokens());
    assert_eq!(session.advance(&[1]).unwrap(), plain.advance(&[1]).unwrap());
}

#[test]
fn dropping_everything_during_work_is_harmless() {
    let (gpu, _) = faulty_gpu();
    for steps_ahead in [0, 8] {
        let options = ModelOptions { steps_ahead: Some(steps_ahead), ..ModelOptions::default() };
        let engine = load(&gpu, &options).unwrap();
        let endless = GenerateOptions { ignore_eos: true, ..GenerateOptions::default() };
        let mut text = engine.generate_tokens(&TOKENS, endless).unwrap();
        text.next().unwrap().unwrap();
        let mut session = engine.session();
        // Submitted but not waited for.
        session.prefill(&TOKENS).unwrap();
        drop(engine);
        drop(session);
        drop(text);
        assert_eq!(gpu.ledger().total_bytes(), 0);
    }
    let other = load(&gpu, &deterministic()).unwrap();
    assert_eq!(other.session().advance(&TOKENS).unwrap().len(), other.vocab_size());
}

#[test]
fn a_lost_device_is_reported_from_the_first_call_on() {
    let (gpu, faults) = faulty_gpu();
    let engine = load(&gpu, &deterministic()).unwrap();
    let mut session = engine.session();
    session.prefill(&TOKENS).unwrap();
    faults.inject(Call::Submit, 0, Fault::Loss);
    for _ in 0..3 {
        let error = session.advance(&[1]).unwrap_err();
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        assert!(error.to_string().contains("rebind"), "{error}");
    }
    assert!(matches!(gpu.upload(&faultless(&gpu), 0, &[0; 4]), Err(Error::DeviceLost { .. })));
    // Releasing pages makes no device call.
    let fork = session.fork();
    drop((fork, session));
    assert_eq!(engine.kv_pages().0, 0);
}

/// Returns a small buffer. Its device does not matter, because an empty upload needs
/// none.
fn faultless(gpu: &Gpu) -> wgpt::internals::gpu::GpuBuffer {
    let other = crate::support::open_gpu(gpu.options().clone());
    other.allocate("other", 16, wgpt::internals::gpu::BufferUse::Storage, wgpt::MemoryGroup::Params).unwrap()
}
