//! Steps over many sessions: each session gets the results of separate calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use wgpt::internals::kernels::PAGE_SIZE;
use wgpt::{BatchLogits, Engine, Error, Gpu, GpuOptions, ModelOptions, Session};

use crate::support::{GREEDY_BOUND, gap, open_gpu};
use crate::{deterministic, every_gpu, f32_options, load_tiny};

/// Tolerance for f32 weights and cache. As for whole models (tests/models/golden.rs), only
/// the order of sums may differ.
const TOLERANCE_F32: f32 = 2e-4;
/// With an f16 cache, a key or value close to the middle between two f16 values may be
/// rounded the other way, by 2^-11 of its size, and the layers carry this on. The largest
/// difference seen was 5e-4.
const TOLERANCE_F16: f32 = 5e-3;

/// One device per strategy of the adapter, and the floor with bounds checks in the
/// shaders.
static GPUS: LazyLock<Vec<Arc<Gpu>>> = LazyLock::new(|| every_gpu().into_iter().map(Arc::new).collect());

fn token(seed: usize) -> u32 {
    ((seed as u32).wrapping_mul(2_654_435_769) >> 8) % 1000
}

/// Returns `n` sessions of 0 to 70 tokens, about every third a fork of the one before,
/// and twins with the same tokens that share nothing.
fn sessions(engine: &Engine, n: usize) -> (Vec<Session>, Vec<Session>) {
    // Lengths around the boundaries of pages of 16 positions.
    const LENGTHS: [usize; 8] = [0, 15, 16, 30, 1, 47, 70, 33];
    let (mut together, mut alone): (Vec<Session>, Vec<Session>) = (Vec::new(), Vec::new());
    for i in 0..n {
        let mut session = match together.last() {
            Some(last) if i % 3 == 2 => last.fork(),
            _ => engine.session(),
        };
        let length = LENGTHS[i % LENGTHS.len()];
        if session.is_empty() && length > 0 {
            session.prefill(&(0..length).map(|j| token(i * 100 + j)).collect::<Vec<_>>()).unwrap();
        }
        let mut twin = engine.session();
        if !session.is_empty() {
            twin.prefill(session.tokens()).unwrap();
        }
        together.push(session);
        alone.push(twin);
    }
    (together, alone)
}

/// Counts the forks among [`sessions`] that end inside a page; a pass copies that page.
fn shared_partial_pages(sessions: &[Session]) -> usize {
    let forks = sessions.windows(2).enumerate().filter(|(i, pair)| {
        i % 3 == 1 && pair[0].len() % PAGE_SIZE != 0 && pair[0].tokens() == pair[1].tokens()
    });
    forks.count()
}

fn refs(sessions: &mut [Session]) -> Vec<&mut Session> {
    sessions.iter_mut().collect()
}

/// Returns the largest difference of a logit over `steps` steps of `n` sessions.
fn worst(engine: &Engine, n: usize, steps: usize) -> f32 {
    let (mut together, mut alone) = sessions(engine, n);
    let mut logits = BatchLogits::new();
    let mut worst = 0.0_f32;
    for step in 0..steps {
        let tokens: Vec<u32> = (0..n).map(|i| token(7919 * (step + 1) + i)).collect();
        engine.step(&mut refs(&mut together), &tokens, &mut logits).unwrap();
        assert_eq!(logits.len(), n);
        for (i, (found, twin)) in logits.rows().zip(&mut alone).enumerate() {
            let expected = twin.advance(&tokens[i..=i]).unwrap();
            assert_eq!((found.len(), expected.len()), (1000, 1000));
            for (a, b) in found.iter().zip(expected) {
                // This form counts a NaN as an error.
                let error = (a - b).abs();
                worst = if error <= worst { worst } else { error };
            }
        }
    }
    for (session, twin) in together.iter().zip(&alone) {
        assert_eq!(session.tokens(), twin.tokens());
    }
    drop((together, alone));
    assert_eq!(engine.kv_pages().0, 0);
    worst
}

#[test]
fn a_batch_step_equals_separate_steps() {
    for (g, gpu) in GPUS.iter().enumerate() {
        // The first device runs all sizes. The others run one size that takes one pass and
        // one that takes two.
        let sizes: &[usize] = if g == 0 { &[1, 2, 3, 5, 8, 9, 16, 17, 35] } else { &[4, 17] };
        for (options, tolerance, name) in [
            (deterministic(), 0.0, "deterministic"),
            (f32_options(), TOLERANCE_F32, "f32"),
            (ModelOptions::default(), TOLERANCE_F16, "f16"),
        ] {
            let engine = load_tiny(gpu, &options);
            assert_eq!(engine.batch_size(), 16);
            for &n in sizes {
                let worst = worst(&engine, n, 4);
                println!("{:?} {name}, {n} sessions: {worst:e}", gpu.strategy());
                assert!(worst <= tolerance, "{:?} {name}, {n} sessions: {worst:e}", gpu.strategy());
            }
        }
    }
}

#[test]
fn greedy_batch_steps_equal_separate_steps() {
    for (options, exact) in
        [(deterministic(), true), (f32_options(), false), (ModelOptions::default(), false)]
    {
        let engine = load_tiny(&GPUS[0], &options);
        let (mut together, mut alone) = sessions(&engine, 19);
        let mut tokens: Vec<u32> = (0..19).map(token).collect();
        let (mut next, mut close) = (Vec::new(), 0);
        for _ in 0..20 {
            engine.step_greedy(&mut refs(&mut together), &tokens, &mut next).unwrap();
            assert_eq!(next.len(), 19);
            for (i, twin) in alone.iter_mut().enumerate() {
                let logits = twin.advance(&tokens[i..=i]).unwrap();
                let expected = wgpt::internals::reference::argmax(logits).unwrap() as u32;
                if next[i] != expected {
                    let gap = gap(logits, next[i], expected);
                    assert!(!exact && gap < GREEDY_BOUND, "session {i}: gap {gap}");
                    close += 1;
                }
                tokens[i] = expected;
            }
        }
        println!("{options:?}: {close} of 380 tokens differ where the gap is below {GREEDY_BOUND}");
    }
}

#[test]
fn a_failing_step_changes_nothing() {
    let engine = load_tiny(&GPUS[0], &deterministic());
    let other = load_tiny(&GPUS[0], &deterministic());
    let (mut own, mut twins) = sessions(&engine, 18);
    let mut foreign = other.session();
    let mut full = engine.session();
    full.prefill(&(0..128).map(token).collect::<Vec<_>>()).unwrap();
    let mut stopped = engine.session();
    let flag = Arc::new(AtomicBool::new(true));
    stopped.set_cancel(Arc::clone(&flag));
    let lengths = |sessions: &[Session]| sessions.iter().map(Session::len).collect::<Vec<_>>();
    let (before, pages) = (lengths(&own), engine.kv_pages().0);

    let mut logits = BatchLogits::new();
    let tokens = [5; 19];
    engine.step(&mut refs(&mut twins), &tokens[..18], &mut logits).unwrap();
    twins.iter_mut().for_each(|twin| twin.truncate(twin.len() - 1));
    assert_eq!(logits.len(), 18);
    let expected: Vec<Vec<f32>> = logits.rows().map(<[f32]>::to_vec).collect();
    assert_eq!(engine.kv_pages().0, pages);

    // The last session is at fault, in the last of 19 passes.
    for (last, token, what) in [
        (&mut foreign, 5, "session 18 of the step belongs to another engine"),
        (&mut full, 5, "session 18 of the step: 1 tokens after 128 exceed the context"),
    ] {
        let mut some = refs(&mut own);
        some.push(last);
        let error = engine.step(&mut some, &[&tokens[..18], &[token]].concat(), &mut logits).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains(what), "{error}");
        assert!(logits.is_empty() && logits.row(0).is_none());
    }
    let mut bad = tokens;
    bad[17] = 1000;
    let error = engine.step(&mut refs(&mut own), &bad[..18], &mut logits).unwrap_err();
    assert!(error.to_string().contains("session 17 of the step: token 1000 is outside"), "{error}");
    let error = engine.step(&mut refs(&mut own), &tokens[..17], &mut logits).unwrap_err();
    assert!(error.to_string().contains("17 tokens for 18 sessions"), "{error}");
    let mut next = vec![1, 2];
    {
        let mut some = refs(&mut own);
        some.push(&mut stopped);
        let error = engine.step_greedy(&mut some, &tokens, &mut next).unwrap_err();
        assert!(matches!(error, Error::Cancelled) && next.is_empty(), "{error}");
    }
    assert_eq!(lengths(&own), before);
    // The passes before the cancelled one were undone. The partly filled pages shared by
    // forks were copied for those passes and stay copied; no page is held for an undone
    // position.
    assert_eq!(engine.kv_pages().0, pages + shared_partial_pages(&own));
    assert_eq!((foreign.len(), full.len(), stopped.len()), (0, 128, 0));
    engine.step(&mut [], &[], &mut logits).unwrap();
    assert!(logits.is_empty());

    // Afterwards all sessions continue as if nothing had happened.
    engine.step(&mut refs(&mut own), &tokens[..18], &mut logits).unwrap();
    assert!(logits.rows().eq(expected.iter()));
    flag.store(false, Ordering::Relaxed);
    engine.step_greedy(&mut [&mut stopped], &[5], &mut next).unwrap();
    assert_eq!((stopped.len(), next.len()), (1, 1));
}

#[test]
fn passes_that_ran_before_a_failure_are_undone() {
    for options in [ModelOptions::default(), f32_options()] {
        let engine = load_tiny(&GPUS[0], &options);
        let (mut own, mut twins) = sessions(&engine, 20);
        let flag = Arc::new(AtomicBool::new(true));
        own[19].set_cancel(Arc::clone(&flag));
        let (before, pages) = (own.iter().map(Session::len).collect::<Vec<_>>(), engine.kv_pages().0);
        let submits = engine.gpu().step_timings().dispatches;
        let mut logits = BatchLogits::new();
        let error = engine.step(&mut refs(&mut own), &[3; 20], &mut logits).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert!(engine.gpu().step_timings().dispatches > submits, "the first pass ran");
        let after = own.iter().map(Session::len).collect::<Vec<_>>();
        assert_eq!(after, before);
        // Only pages of the first 16 sessions were copied.
        assert_eq!(engine.kv_pages().0, pages + shared_partial_pages(&own[..16]));
        flag.store(false, Ordering::Relaxed);
        engine.step(&mut refs(&mut own), &[3; 20], &mut logits).unwrap();
        let found: Vec<Vec<f32>> = logits.rows().map(<[f32]>::to_vec).collect();
        engine.step(&mut refs(&mut twins), &[3; 20], &mut logits).unwrap();
        assert!(logits.rows().eq(found.iter()));
    }
}

#[test]
fn a_full_pool_fails_a_step_and_loses_nothing() {
    // 256 KiB per binding hold 64 pages of gpt2-tiny's cache, so four bindings hold 256.
    let gpu = open_gpu(GpuOptions { max_binding_bytes: Some(256 << 10), ..GpuOptions::default() });
    let engine = load_tiny(&Arc::new(gpu), &ModelOptions::default());
    let mut all: Vec<Session> = (0..18)
        .map(|i| {
            let mut session = engine.session();
            session.prefill(&(0..112).map(|j| token(i * 200 + j)).collect::<Vec<_>>()).unwrap();
            session
        })
        .collect();
    // 18 x 7 pages, and more sessions until 17 pages are left: one too few.
    let mut rest: Vec<Session> = Vec::new();
    while engine.kv_pages().0 < 256 - 17 {
        let n = (256 - 17 - engine.kv_pages().0).min(8) * 16;
        rest.push(engine.session());
        rest.last_mut().unwrap().prefill(&vec![1; n]).unwrap();
    }
    let held = engine.kv_pages().0;
    assert_eq!(held, 256 - 17);
    let mut next = Vec::new();
    let error = engine.step_greedy(&mut refs(&mut all), &[3; 18], &mut next).unwrap_err();
    assert!(matches!(error, Error::Limits(_)), "{error}");
    assert_eq!(engine.kv_pages().0, held);
    assert!(all.iter().all(|session| session.len() == 112));
    drop(rest);
    engine.step_greedy(&mut refs(&mut all), &[3; 18], &mut next).unwrap();
    assert_eq!((next.len(), engine.kv_pages().0), (18, 18 * 8));
}
