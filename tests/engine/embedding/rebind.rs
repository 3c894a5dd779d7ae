//! A lost device, a new one, and texts that continue.

use std::sync::Arc;

use wgpt::internals::gpu::{Call, Fault};
use wgpt::{
    Error, ErrorKind, GenerateOptions, Generation, GpuOptions, ModelOptions, SamplingParams, Strategy,
};

use super::{deterministic, faulty_gpu, load};
use crate::support;

const PROMPT: [u32; 20] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4];

#[test]
fn sessions_continue_with_the_same_bits() {
    let prompt: Vec<u32> = PROMPT.repeat(4);
    let (gpu, faults) = faulty_gpu();
    let options = ModelOptions { prefill_chunk: 32, ..deterministic() };
    let engine = load(&gpu, &options).unwrap();
    let mut plain = engine.session();
    plain.prefill(&prompt).unwrap();
    let mut fork = plain.fork();
    let mut kept = plain.fork();
    let mut empty = engine.session();
    let expected: Vec<Vec<f32>> = (0..5).map(|token| plain.advance(&[token]).unwrap().to_vec()).collect();

    faults.inject(Call::Wait, 1, Fault::Panic);
    let first = fork.advance(&[0]).map(<[f32]>::to_vec);
    let lost = first.and_then(|_| fork.advance(&[1]).map(<[f32]>::to_vec)).unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::DeviceLost, "{lost}");
    let seen = fork.len() - prompt.len();

    engine.rebind(support::open_gpu(GpuOptions::default())).unwrap();
    assert_eq!(gpu.ledger().total_bytes(), 0, "nothing stays on the lost device");
    for (token, expected) in expected.iter().enumerate().skip(seen) {
        assert_eq!(fork.advance(&[token as u32]).unwrap(), expected, "token {token}");
    }
    // Forks and truncations of a session that has not run on the new device yet.
    let mut twin = kept.fork();
    kept.truncate(33);
    twin.truncate(17);
    assert_eq!(engine.kv_pages().0, fork.len().div_ceil(16));
    kept.prefill(&prompt[33..]).unwrap();
    twin.prefill(&prompt[17..]).unwrap();
    for session in [&mut kept, &mut twin] {
        assert_eq!(session.advance(&[0]).unwrap(), expected[0]);
    }
    empty.prefill(&prompt).unwrap();
    assert_eq!(empty.advance(&[0]).unwrap(), expected[0]);
    drop((plain, fork, kept, twin, empty));
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn batches_and_scores_work_after_a_rebind() {
    let engine = load(&faulty_gpu().0, &deterministic()).unwrap();
    let mut sessions: Vec<_> = (0..3).map(|_| engine.session()).collect();
    for (i, session) in sessions.iter_mut().enumerate() {
        session.prefill(&PROMPT[i..]).unwrap();
    }
    let mut forks: Vec<_> = sessions.iter().map(wgpt::Session::fork).collect();
    let mut next = [Vec::new(), Vec::new()];
    let mut refs: Vec<_> = sessions.iter_mut().collect();
    engine.step_greedy(&mut refs, &[1, 2, 3], &mut next[0]).unwrap();
    let scores = refs[1].score(&[4, 5]).unwrap();

    engine.rebind(support::open_gpu(GpuOptions::default())).unwrap();
    let mut refs: Vec<_> = forks.iter_mut().collect();
    engine.step_greedy(&mut refs, &[1, 2, 3], &mut next[1]).unwrap();
    assert_eq!(next[0], next[1]);
    engine.rebind(support::open_gpu(GpuOptions::default())).unwrap();
    assert_eq!(engine.score(&mut [(&mut *refs[1], &[4, 5])]).unwrap(), [scores]);
}

fn text(engine: &wgpt::Engine, sampled: bool) -> Generation {
    let sampling = match sampled {
        true => SamplingParams { seed: Some(11), top_k: 20, ..SamplingParams::default() },
        false => SamplingParams::greedy(),
    };
    let options = GenerateOptions {
        sampling,
        max_new_tokens: Some(40),
        ignore_eos: true,
        ..GenerateOptions::default()
    };
    engine.generate_tokens(&PROMPT, options).unwrap()
}

#[test]
fn a_text_continues_where_the_device_was_lost() {
    for steps_ahead in [0, 4] {
        let (gpu, _) = faulty_gpu();
        let options = ModelOptions { steps_ahead: Some(steps_ahead), ..deterministic() };
        let engine = load(&gpu, &options).unwrap();
        let plain: Vec<Vec<u32>> = [false, true]
            .map(|sampled| {
                let mut whole = text(&engine, sampled);
                assert!(whole.by_ref().all(|piece| piece.is_ok()));
                whole.tokens().to_vec()
            })
            .to_vec();
        for (sampled, plain) in [(false, &plain[0]), (true, &plain[1])] {
            let mut cut = text(&engine, sampled);
            assert!(cut.by_ref().take(13).all(|piece| piece.is_ok()));
            engine.gpu().faults().inject(Call::Submit, 0, Fault::Loss);
            let error = cut.find_map(Result::err).unwrap();
            assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
            assert!(cut.next().is_none(), "an error ends the iterator");
            let second = Arc::new(support::open_gpu(engine.gpu().options().clone()));
            engine.rebind(second).unwrap();
            cut.resume();
            assert!(cut.by_ref().all(|piece| piece.is_ok()));
            assert_eq!(cut.tokens(), plain, "{steps_ahead} ahead, sampled: {sampled}");
        }
        // Moved to another device without a loss, in the middle of a text.
        let mut moved = text(&engine, true);
        assert!(moved.by_ref().take(7).all(|piece| piece.is_ok()));
        engine.rebind(support::open_gpu(GpuOptions::default())).unwrap();
        assert!(moved.by_ref().all(|piece| piece.is_ok()));
        assert_eq!(moved.tokens(), plain[1], "{steps_ahead} ahead");
    }
}

#[test]
fn a_rebind_that_fails_changes_nothing() {
    let (gpu, faults) = faulty_gpu();
    let engine = load(&gpu, &deterministic()).unwrap();
    let mut session = engine.session();
    session.prefill(&PROMPT).unwrap();
    let (other, other_faults) = faulty_gpu();
    other_faults.inject(Call::Allocate, 20, Fault::OutOfMemory);
    assert_eq!(engine.rebind(Arc::clone(&other)).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(other.ledger().total_bytes(), 0);
    assert!(Arc::ptr_eq(&engine.gpu(), &gpu));
    let mut twin = session.fork();
    let before = session.advance(&[1]).unwrap().to_vec();
    // If recomputing a session fails, it tries again later.
    engine.rebind(Arc::clone(&other)).unwrap();
    other_faults.inject(Call::Submit, 0, Fault::OutOfMemory);
    assert_eq!(twin.advance(&[1]).unwrap_err().kind(), ErrorKind::OutOfMemory);
    assert_eq!(twin.len(), PROMPT.len());
    assert_eq!(twin.advance(&[1]).unwrap(), before);
    assert_eq!(faults.clear(), 0);
}

#[test]
fn a_device_with_other_kernels_can_take_over() {
    let engine = load(&faulty_gpu().0, &ModelOptions::default()).unwrap();
    let mut session = engine.session();
    let before = session.advance(&PROMPT).unwrap().to_vec();
    let strategy = Some(Strategy::Workgroup);
    engine.rebind(support::open_gpu(GpuOptions { strategy, ..GpuOptions::default() })).unwrap();
    session.truncate(PROMPT.len() - 1);
    let after = session.advance(&PROMPT[PROMPT.len() - 1..]).unwrap();
    let gap = before.iter().zip(after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(gap <= support::GREEDY_BOUND, "{gap}");
}
