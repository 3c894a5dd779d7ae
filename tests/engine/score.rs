//! Log-probabilities of given continuations: on the GPU, of one session and of many at
//! once, against a softmax of the full logits on the CPU.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use wgpt::internals::reference;
use wgpt::{Engine, Error, Gpu, GpuOptions, ModelFiles, ModelOptions, Session, TokenScore};

use crate::support::models::Model;
use crate::support::open_gpu;
use crate::{deterministic, every_gpu, f32_options, load_files, load_tiny};

/// Tolerance for a log-probability from the same logits. The error of f32's exp, log and
/// sums is at most 6e-6 of its magnitude (`kernels::score::record`), and logits here are
/// small.
const TOLERANCE: f64 = 1e-5;
/// Tolerances for log-probabilities whose logits were summed in another order, by the type
/// of weights and cache: as for whole models (tests/engine/batch.rs).
const TOLERANCE_F32: f64 = 2e-4;
const TOLERANCE_F16: f64 = 5e-3;

/// One device per strategy of the adapter; the floor, with bounds checks in the shaders;
/// and one whose bindings hold 65 rows of logits, fewer than a chunk has.
static GPUS: LazyLock<Vec<Arc<Gpu>>> = LazyLock::new(|| {
    let mut all = every_gpu();
    all.push(small_bindings());
    all.into_iter().map(Arc::new).collect()
});

/// 256 KiB per binding hold 64 pages of gpt2-tiny's cache, so four bindings hold 256.
fn small_bindings() -> Gpu {
    open_gpu(GpuOptions { max_binding_bytes: Some(256 << 10), ..GpuOptions::default() })
}

fn tokens(seed: usize, n: usize) -> Vec<u32> {
    (0..n).map(|i| (((seed * 1000 + i) as u32).wrapping_mul(2_654_435_769) >> 8) % 1000).collect()
}

fn session(engine: &Engine, context: &[u32]) -> Session {
    let mut session = engine.session();
    session.prefill(context).unwrap();
    session
}

/// Returns the scores of `tokens` after `context`, from full logits in f64, with the rows
/// split into chunks like those of `Session::score`.
fn expected(engine: &Engine, context: &[u32], tokens: &[u32]) -> Vec<reference::Score> {
    let (last, before) = context.split_last().unwrap();
    let mut twin = engine.session();
    if !before.is_empty() {
        twin.prefill(before).unwrap();
    }
    let rows = [&[*last], tokens].concat();
    let mut scores = Vec::new();
    twin.advance_each(&rows, |i, logits| {
        scores.extend(tokens.get(i).map(|&token| reference::score(logits, token as usize).unwrap()));
        Ok(())
    })
    .unwrap();
    scores
}

/// Returns the largest difference; a NaN counts as an error.
fn worst<'a>(found: &[f32], expected: impl IntoIterator<Item = &'a f32>) -> f64 {
    let expected: Vec<&f32> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    errors.fold(0.0, |worst, error| if error <= worst { worst } else { error })
}

#[test]
fn scores_match_the_full_logits() {
    for gpu in GPUS.iter() {
        for options in [
            deterministic(),
            ModelOptions { prefill_chunk: 7, ..deterministic() },
            f32_options(),
            ModelOptions::default(),
        ] {
            let engine = load_tiny(gpu, &options);
            let mut error = 0.0_f64;
            // Positions around page boundaries, and two lengths that end a chunk of 7.
            for (context, n) in [(1, 1), (15, 2), (16, 20), (17, 13), (18, 6), (33, 70), (1, 127)] {
                let (context, new) = (tokens(1, context), tokens(2, n));
                let expected = expected(&engine, &context, &new);
                let mut plain = session(&engine, &context);
                let logprobs = plain.score(&new).unwrap();
                assert_eq!(plain.tokens(), [&context[..], &new].concat());
                let mut other = session(&engine, &context);
                let detailed = other.score_detailed(&new).unwrap();
                assert_eq!(other.tokens(), plain.tokens());
                assert!(logprobs.iter().eq(detailed.iter().map(|score| &score.logprob)));
                assert_eq!(expected.len(), n);
                for (found, expected) in detailed.iter().zip(&expected) {
                    let TokenScore { logprob, rank, best, best_logprob } = *found;
                    error = error.max((f64::from(logprob) - expected.logprob).abs());
                    error = error.max((f64::from(best_logprob) - expected.best_logprob).abs());
                    assert_eq!((rank as usize, best as usize), (expected.rank, expected.best));
                    assert_eq!(rank == 0, logprob == best_logprob, "{found:?}");
                }
            }
            println!("{:?} {options:?}: {error:e}", gpu.strategy());
            assert!(error <= TOLERANCE, "{:?} {options:?}: {error:e}", gpu.strategy());
        }
    }
}

#[test]
fn a_scored_session_continues_as_any_other() {
    let engine = load_tiny(&GPUS[0], &deterministic());
    let (context, new) = (tokens(1, 20), tokens(2, 30));
    let mut scored = session(&engine, &context);
    let first = scored.score(&new[..11]).unwrap();
    let second = scored.score(&new[11..]).unwrap();
    let mut whole = session(&engine, &context);
    assert_eq!(whole.score(&new).unwrap(), [first, second].concat());
    let mut plain = session(&engine, &[&context[..], &new].concat());
    assert_eq!(scored.advance(&[5]).unwrap(), plain.advance(&[5]).unwrap());
}

#[test]
fn forks_do_not_affect_each_other() {
    let engine = load_tiny(&GPUS[0], &deterministic());
    // The last token is alone on a page, in the middle of one, at its end.
    for len in [17, 20, 32, 33] {
        let context = tokens(3, len);
        let original = session(&engine, &context);
        let [mut left, mut right] = [original.fork(), original.fork()];
        let (a, b) = (tokens(4, 20), tokens(5, 9));
        let together = engine.score(&mut [(&mut left, &a), (&mut right, &b)]).unwrap();
        let mut alone = session(&engine, &context);
        assert_eq!(together[1], alone.score(&b).unwrap());
        let mut after = original.fork();
        assert_eq!(together[0], after.score(&a).unwrap());
        for (session, tokens) in [(&mut left, &a), (&mut right, &b)] {
            let mut fresh = self::session(&engine, &[&context[..], tokens].concat());
            assert_eq!(session.advance(&[1]).unwrap(), fresh.advance(&[1]).unwrap(), "context of {len}");
        }
        drop((original, left, right, alone, after));
        assert_eq!(engine.kv_pages().0, 0);
    }
}

/// Returns sessions with their continuations: forks of a few contexts, of all lengths.
fn requests(engine: &Engine, n: usize) -> Vec<(Session, Vec<u32>)> {
    const CONTEXTS: [usize; 5] = [1, 17, 32, 60, 47];
    const LENGTHS: [usize; 7] = [20, 1, 16, 5, 44, 2, 9];
    let mut all: Vec<(Session, Vec<u32>)> = Vec::new();
    for i in 0..n {
        let session = match all.last() {
            // Forked before it is scored.
            Some((last, _)) if i % 4 != 0 => last.fork(),
            _ => session(engine, &tokens(i, CONTEXTS[i / 4 % 5])),
        };
        all.push((session, tokens(1000 + i, LENGTHS[i % 7])));
    }
    all
}

fn refs(requests: &mut [(Session, Vec<u32>)]) -> Vec<(&mut Session, &[u32])> {
    requests.iter_mut().map(|(session, tokens)| (session, &tokens[..])).collect()
}

#[test]
fn sessions_scored_together_match_those_scored_separately() {
    for gpu in GPUS.iter() {
        for (options, tolerance) in [
            (deterministic(), 0.0),
            (ModelOptions { prefill_chunk: 30, ..deterministic() }, 0.0),
            (f32_options(), TOLERANCE_F32),
            (ModelOptions::default(), TOLERANCE_F16),
        ] {
            let engine = load_tiny(gpu, &options);
            for n in [1, 2, 31] {
                let mut together = requests(&engine, n);
                let mut alone: Vec<Session> = together.iter().map(|(session, _)| session.fork()).collect();
                let found = engine.score(&mut refs(&mut together)).unwrap();
                let mut error = 0.0_f64;
                for (((session, tokens), twin), found) in together.iter().zip(&mut alone).zip(&found) {
                    let expected = twin.score(tokens).unwrap();
                    error = error.max(worst(found, &expected));
                    assert_eq!(session.tokens(), twin.tokens());
                    // The pool of small bindings does not have space for all of them.
                    twin.truncate(0);
                }
                println!("{:?} {options:?}, {n} sessions: {error:e}", gpu.strategy());
                // Without tuning, no kernel's sums depend on the number of rows.
                assert!(error == 0.0, "{:?} {options:?}, {n} sessions: {error:e}", gpu.strategy());
                // The cache entries equal those of a plain prefill.
                let mut fresh = session(&engine, together[n - 1].0.tokens());
                let (found, expected) =
                    (together[n - 1].0.advance(&[7]).unwrap(), fresh.advance(&[7]).unwrap());
                assert!(worst(found, expected) <= tolerance);
                drop((together, alone, fresh));
                assert_eq!(engine.kv_pages().0, 0);
            }
        }
    }
}

#[test]
fn passes_are_recorded_once() {
    let engine = load_tiny(&GPUS[0], &ModelOptions::default());
    let mut some = requests(&engine, 16);
    let lens: Vec<usize> = some.iter().map(|(session, _)| session.len()).collect();
    engine.score(&mut refs(&mut some)).unwrap();
    let before = engine.gpu().counters();
    some.iter_mut().zip(lens).for_each(|((session, _), len)| session.truncate(len));
    engine.score(&mut refs(&mut some)).unwrap();
    let after = engine.gpu().counters();
    assert_eq!((after.bind_groups, after.pipelines), (before.bind_groups, before.pipelines));
}

#[test]
fn wrong_requests_are_explained_and_change_nothing() {
    let engine = load_tiny(&GPUS[0], &deterministic());
    let other = load_tiny(&GPUS[0], &deterministic());
    let message = |result: Result<Vec<f32>, Error>| match result {
        Err(Error::Input(message)) => message,
        other => panic!("{other:?}"),
    };
    assert!(message(engine.session().score(&[1])).contains("the session has no tokens"));
    let context = tokens(1, 100);
    let mut full = session(&engine, &context);
    assert!(message(full.score(&[])).contains("no token to score"));
    assert!(message(full.score(&[1, 1000])).contains("token 1000 is outside"));
    assert!(message(full.score(&[1; 29])).contains("exceed the context of 128"));
    assert_eq!(full.tokens(), context);

    let mut foreign = session(&other, &[1]);
    let mut empty = engine.session();
    for (session, tokens, what) in [
        (&mut foreign, &[1][..], "the session of request 1 belongs to another engine"),
        (&mut empty, &[1], "request 1: the session has no tokens"),
    ] {
        let error = engine.score(&mut [(&mut full, &[1, 2]), (session, tokens)]).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    let mut second = session(&engine, &[3]);
    let error = engine.score(&mut [(&mut second, &[1]), (&mut full, &[1000])]).unwrap_err();
    assert!(error.to_string().contains("request 1: token 1000"), "{error}");
    assert_eq!((full.len(), second.len(), foreign.len(), empty.len()), (100, 1, 1, 0));
    assert_eq!(engine.score(&mut []).unwrap(), Vec::<Vec<f32>>::new());
    let mut fresh = session(&engine, &context);
    assert_eq!(full.score(&[4; 28]).unwrap(), fresh.score(&[4; 28]).unwrap());
}

#[test]
fn nan_logits_are_refused() {
    // A key of 1e5 overflows the f16 cache.
    let model = Model::tiny().with_value("transformer.h.0.attn.c_attn.bias", 100, 1e5);
    let files = ModelFiles::open(model.path().as_ref()).unwrap();
    let options = ModelOptions { detect_overflow: false, ..ModelOptions::default() };
    let engine = load_files(files, &GPUS[0], &options);
    let [mut one, mut two] = [session(&engine, &[1, 2]), session(&engine, &[3])];
    let pages = engine.kv_pages().0;
    for error in [
        one.score(&[5; 40]).unwrap_err(),
        one.score_detailed(&[5; 40]).unwrap_err(),
        engine.score(&mut [(&mut one, &[6; 40]), (&mut two, &[7])]).unwrap_err(),
    ] {
        assert!(matches!(&error, Error::Input(message) if message.contains("hold NaN")), "{error}");
    }
    assert_eq!((one.len(), two.len(), engine.kv_pages().0), (2, 1, pages));
}

#[test]
fn a_raised_flag_ends_a_score_and_changes_nothing() {
    for options in [deterministic(), ModelOptions { prefill_chunk: 16, ..ModelOptions::default() }] {
        let engine = load_tiny(&GPUS[0], &options);
        let mut some = requests(&engine, 9);
        let flag = Arc::new(AtomicBool::new(true));
        some[8].0.set_cancel(Arc::clone(&flag));
        let before: Vec<Vec<u32>> = some.iter().map(|(session, _)| session.tokens().to_vec()).collect();
        let pages = engine.kv_pages().0;
        assert!(matches!(engine.score(&mut refs(&mut some)), Err(Error::Cancelled)));
        assert!(matches!(some[8].0.score(&[1]), Err(Error::Cancelled)));
        assert!(some.iter().map(|(session, _)| session.tokens()).eq(before.iter()));
        assert_eq!(engine.kv_pages().0, pages);
        flag.store(false, Ordering::Relaxed);
        let mut twins: Vec<Session> = some.iter().map(|(session, _)| session.fork()).collect();
        let found = engine.score(&mut refs(&mut some)).unwrap();
        for ((twin, (_, tokens)), found) in twins.iter_mut().zip(&some).zip(&found) {
            assert_eq!(found, &twin.score(tokens).unwrap());
        }
    }
}

#[test]
fn passes_that_ran_before_a_failure_are_undone() {
    let engine = load_tiny(&Arc::new(small_bindings()), &ModelOptions::default());
    // 30 sessions of one page each, whose continuations take 4 more pages each: 150 of
    // 256.
    let mut all: Vec<(Session, Vec<u32>)> =
        (0..30).map(|i| (session(&engine, &tokens(i, 16)), tokens(100 + i, 60))).collect();
    let mut rest: Vec<Session> = Vec::new();
    while engine.kv_pages().0 < 156 {
        let n = (156 - engine.kv_pages().0).min(8) * 16;
        rest.push(session(&engine, &vec![1; n]));
    }
    let dispatches = engine.gpu().step_timings().dispatches;
    let error = engine.score(&mut refs(&mut all)).unwrap_err();
    assert!(matches!(error, Error::Limits(_)), "{error}");
    assert!(engine.gpu().step_timings().dispatches > dispatches, "the first pass ran");
    assert_eq!(engine.kv_pages().0, 156);
    assert!(all.iter().enumerate().all(|(i, (session, _))| session.tokens() == tokens(i, 16)));
    // A single session fails the same way; then there is space.
    rest.push(session(&engine, &vec![1; 128]));
    while engine.kv_pages().0 < 255 {
        let n = (255 - engine.kv_pages().0).min(8) * 16;
        rest.push(session(&engine, &vec![1; n]));
    }
    let (first, new) = &mut all[0];
    assert!(matches!(first.score(new), Err(Error::Limits(_))));
    assert_eq!((first.len(), engine.kv_pages().0), (16, 255));
    drop(rest);
    let mut twins: Vec<Session> = all.iter().map(|(session, _)| session.fork()).collect();
    let found = engine.score(&mut refs(&mut all)).unwrap();
    for ((twin, (_, tokens)), found) in twins.iter_mut().zip(&all).zip(&found) {
        assert_eq!(found, &twin.score(tokens).unwrap());
        twin.truncate(0);
    }
}
