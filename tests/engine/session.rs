//! Sessions: forking, rewinding, the page pool, generation at its limits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use wgpt::internals::kernels::PAGE_SIZE;
use wgpt::{
    DType, Engine, Error, FinishReason, GenerateOptions, Gpu, GpuOptions, MemoryGroup, ModelFiles,
    ModelOptions, Overflow, SamplingParams, Session,
};

use crate::support::open_gpu;
use crate::{deterministic, load_tiny, tiny_files, tokens};

fn open(max_binding_bytes: Option<u64>) -> Arc<Gpu> {
    Arc::new(open_gpu(GpuOptions { max_binding_bytes, ..GpuOptions::default() }))
}

static GPU: LazyLock<Arc<Gpu>> = LazyLock::new(|| open(None));

/// gpt2-tiny, 128 positions, deterministic: equal sequences give equal bits.
fn tiny() -> Engine {
    load_tiny(&GPU, &deterministic())
}

fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f32> {
    session.advance(tokens).unwrap().to_vec()
}

#[test]
fn a_fork_shares_full_pages_and_copies_a_partial_one() {
    let engine = tiny();
    let all = tokens(100);
    for partial in [0, 1, PAGE_SIZE - 1] {
        let n = 3 * PAGE_SIZE + partial;
        let mut first = engine.session();
        first.prefill(&all[..n]).unwrap();
        let held = engine.kv_pages().0;
        assert_eq!(held, n.div_ceil(PAGE_SIZE));
        let mut second = first.fork();
        assert_eq!(engine.kv_pages().0, held, "a fork takes no page");
        // The two continue differently, and neither sees the other.
        let left = logits(&mut first, &all[n..n + 2]);
        let right = logits(&mut second, &[1, 2, 3]);
        // Each writes into its own page: the partly filled one was copied once.
        assert_eq!(engine.kv_pages().0, held + if partial == 0 { 2 } else { extra_pages(n) });
        let mut fresh = engine.session();
        assert_eq!(left, logits(&mut fresh, &all[..n + 2]), "partial {partial}");
        fresh.truncate(0);
        fresh.prefill(&all[..n]).unwrap();
        assert_eq!(right, logits(&mut fresh, &[1, 2, 3]), "partial {partial}");
        drop((first, second, fresh));
        assert_eq!(engine.kv_pages().0, 0, "dropped sessions free their pages");
    }
}

/// Returns the number of pages taken by appending 2 and 3 tokens after `n` in two
/// sessions that share a partly filled page: one copy, and one page for each crossed page
/// boundary.
fn extra_pages(n: usize) -> usize {
    let crossed = |more: usize| (n + more).div_ceil(PAGE_SIZE) - n.div_ceil(PAGE_SIZE);
    1 + crossed(2) + crossed(3)
}

#[test]
fn truncating_rewinds_and_frees_pages() {
    let engine = tiny();
    let all = tokens(90);
    let mut session = engine.session();
    let mut fresh = engine.session();
    session.prefill(&all).unwrap();
    for len in [89, 80, 65, 64, 63, 17, 16, 15, 1] {
        session.truncate(len);
        assert_eq!(session.len(), len);
        assert_eq!(engine.kv_pages().0, len.div_ceil(PAGE_SIZE));
        assert_eq!(logits(&mut session, &[7]), {
            let mut whole = all[..len].to_vec();
            whole.push(7);
            let expected = logits(&mut fresh, &whole);
            fresh.truncate(0);
            expected
        });
        session.truncate(len);
    }
    session.truncate(0);
    assert!(session.is_empty());
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn many_sessions_in_any_order_leave_the_pool_unchanged() {
    let engine = tiny();
    let mut sessions: Vec<Session> = Vec::new();
    let mut state = 12345_u32;
    let mut random = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    for _ in 0..300 {
        match random(4) {
            0 => sessions.push(engine.session()),
            1 if !sessions.is_empty() => {
                let i = random(sessions.len());
                sessions.push(sessions[i].fork());
            }
            2 if !sessions.is_empty() => drop(sessions.swap_remove(random(sessions.len()))),
            _ if !sessions.is_empty() => {
                let i = random(sessions.len());
                let n = random(20) + 1;
                if sessions[i].len() + n > engine.n_ctx() {
                    sessions[i].truncate(random(100));
                } else {
                    sessions[i].prefill(&tokens(n)).unwrap();
                }
            }
            _ => {}
        }
    }
    // Every survivor still computes what a fresh session computes.
    for session in &mut sessions {
        session.truncate(session.len().min(engine.n_ctx() - 1));
        let mut whole = session.tokens().to_vec();
        whole.push(9);
        let mut fresh = engine.session();
        assert_eq!(logits(session, &[9]), logits(&mut fresh, &whole));
    }
    drop(sessions);
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn the_pool_grows_over_several_bindings() {
    // gpt2-tiny's page of one layer is 2 x 4 heads x 16 x 16 x 2 bytes = 4 KiB in f16: a
    // binding of 256 KiB holds 64 pages, and the weights fit. Twice that in f32.
    grows_over_four_slabs(DType::F16, 256 << 10);
    grows_over_four_slabs(DType::F32, 512 << 10);
}

fn grows_over_four_slabs(kv_dtype: DType, max_binding_bytes: u64) {
    let options = ModelOptions { deterministic: true, kv_dtype, ..ModelOptions::default() };
    let engine = load_tiny(&open(Some(max_binding_bytes)), &options);
    let reference = load_tiny(&GPU, &options);
    let recorded = engine.gpu().counters().bind_groups;
    let mut sessions = Vec::new();
    for i in 0..31 {
        let mut session = engine.session();
        session.prefill(&tokens(127)[i..]).unwrap();
        sessions.push(session);
    }
    let (held, total) = engine.kv_pages();
    // 8 pages, doubled up to 256: five growths, each recorded once.
    let growths = (engine.gpu().counters().bind_groups - recorded) / recorded;
    assert!(growths <= 5, "{growths} growths");
    assert!(total > 3 * 64, "the pool has {total} pages: it must spread over four slabs");
    for (i, session) in sessions.iter_mut().enumerate() {
        let mut twin = reference.session();
        twin.prefill(&tokens(127)[i..]).unwrap();
        assert_eq!(logits(session, &[3]), logits(&mut twin, &[3]), "session {i}");
    }
    // Beyond four bindings the pool is full: an error, and nothing is lost.
    let mut refused = None;
    for _ in 0..10 {
        let mut session = engine.session();
        if let Err(error) = session.prefill(&tokens(127)) {
            refused = Some(error);
            break;
        }
        sessions.push(session);
    }
    assert!(matches!(refused, Some(Error::Limits(_))), "{refused:?}");
    let before = sessions[0].len();
    drop(sessions.split_off(1));
    sessions[0].truncate(50);
    sessions[0].prefill(&tokens(20)).unwrap();
    assert_eq!(sessions[0].len(), 70);
    assert!(before > 70 && held > 0);
    drop(sessions);
    assert_eq!(engine.kv_pages().0, 0);
}

#[test]
fn the_ledger_follows_growth_and_returns_to_zero() {
    let gpu = open(None);
    let engine = load_tiny(&gpu, &ModelOptions::default());
    let planned = engine.memory_plan().group_bytes(MemoryGroup::KvCache);
    assert_eq!(gpu.ledger().bytes(MemoryGroup::KvCache), planned);
    let pages = engine.kv_pages().1 as u64;
    let sessions = [(); 3].map(|()| {
        let mut session = engine.session();
        session.prefill(&tokens(128)).unwrap();
        session
    });
    // 2 layers, 4 heads of 16 elements, keys and values in f16.
    let page_bytes = (2 * 4 * 16 * PAGE_SIZE * 2) as u64;
    let grown = engine.kv_pages().1 as u64;
    assert!(grown >= 24 && grown > pages);
    assert_eq!(gpu.ledger().bytes(MemoryGroup::KvCache), planned + (grown - pages) * 2 * page_bytes);
    drop(sessions);
    drop(engine);
    assert_eq!(gpu.ledger().total_bytes(), 0);
}

#[test]
fn bad_tokens_are_errors_and_leave_the_session_unchanged() {
    let engine = tiny();
    let mut session = engine.session();
    session.prefill(&tokens(10)).unwrap();
    for (bad, what) in
        [(vec![], "no token"), (vec![1, 1000], "outside the vocabulary"), (tokens(119), "exceed")]
    {
        let error = session.advance(&bad).unwrap_err();
        assert!(matches!(error, Error::Input(_)) && error.to_string().contains(what), "{error}");
        assert_eq!(session.len(), 10);
    }
    session.prefill(&tokens(118)).unwrap();
    assert_eq!(session.len(), engine.n_ctx());
}

#[test]
fn a_failing_callback_leaves_the_session_unchanged() {
    let engine = tiny();
    let mut session = engine.session();
    session.prefill(&tokens(10)).unwrap();
    let error = session.advance_each(&tokens(20), |_, _| Err(Error::Cancelled)).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!((session.len(), engine.kv_pages().0), (10, 1));
}

#[test]
fn a_callback_may_use_the_engine_and_may_panic() {
    let engine = tiny();
    let mut session = engine.session();
    session.prefill(&tokens(10)).unwrap();
    let mut other = engine.session();
    session
        .advance_each(&tokens(20), |_, _| {
            assert!(engine.kv_pages().0 > 0);
            other.prefill(&[1])
        })
        .unwrap();
    assert_eq!((session.len(), other.len()), (30, 20));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        session.advance_each(&tokens(20), |i, _| {
            assert!(i < 3, "the callback's own fault");
            Ok(())
        })
    }));
    assert!(caught.is_err());
    // Everything continues; this session keeps the tokens that were computed.
    assert_eq!(session.len(), 50);
    let mut fresh = engine.session();
    let whole = session.tokens().to_vec();
    session.truncate(49);
    assert_eq!(logits(&mut session, &whole[49..]), logits(&mut fresh, &whole));
}

fn greedy(max_new_tokens: Option<usize>, overflow: Overflow) -> GenerateOptions {
    GenerateOptions {
        sampling: SamplingParams::greedy(),
        max_new_tokens,
        overflow,
        ignore_eos: true,
        ..GenerateOptions::default()
    }
}

#[test]
fn a_full_context_stops_or_slides() {
    let engine = tiny();
    let mut run = engine.generate_tokens(&tokens(100), greedy(None, Overflow::Stop)).unwrap();
    let found: Vec<u32> = run.by_ref().filter_map(|piece| piece.unwrap().token).collect();
    // The last chosen token needs no position.
    assert_eq!(found.len(), 29);
    assert_eq!(run.finish_reason(), Some(FinishReason::Length));
    assert_eq!(run.tokens(), found);

    let mut run = engine.generate_tokens(&tokens(100), greedy(Some(60), Overflow::Slide)).unwrap();
    let slid: Vec<u32> = run.by_ref().filter_map(|piece| piece.unwrap().token).collect();
    assert_eq!((slid.len(), run.finish_reason()), (60, Some(FinishReason::Length)));
    assert_eq!(slid[..29], found, "the same until the context is full");
    // Then the model sees only the newer half.
    let mut history = tokens(100);
    history.extend(&slid[..29]);
    let mut session = engine.session();
    assert_eq!(session.advance_greedy(&history[history.len() - 64..]).unwrap(), slid[29]);
}

#[test]
fn prompts_beyond_the_context_are_errors_unless_they_slide() {
    let engine = tiny();
    let error = engine.generate_tokens(&tokens(129), greedy(None, Overflow::Stop)).err().unwrap();
    assert!(error.to_string().contains("129 tokens"), "{error}");
    let mut run = engine.generate_tokens(&tokens(300), greedy(Some(2), Overflow::Slide)).unwrap();
    let first = run.next().unwrap().unwrap().token.unwrap();
    let mut session = engine.session();
    assert_eq!(session.advance_greedy(&tokens(300)[236..]).unwrap(), first);
    let full = engine.generate_tokens(&tokens(128), greedy(None, Overflow::Stop)).unwrap();
    assert_eq!(full.count(), 1);
}

#[test]
fn the_cancel_flag_ends_prefill_and_generation() {
    let engine = load_tiny(&GPU, &ModelOptions { prefill_chunk: 8, ..ModelOptions::default() });
    let flag = Arc::new(AtomicBool::new(true));
    let mut session = engine.session();
    session.set_cancel(Arc::clone(&flag));
    assert!(matches!(session.prefill(&tokens(64)), Err(Error::Cancelled)));
    flag.store(false, Ordering::Relaxed);
    session.prefill(&tokens(64)).unwrap();
    let options = GenerateOptions { cancel: Some(Arc::clone(&flag)), ..greedy(Some(50), Overflow::Stop) };
    let mut run = engine.generate_tokens(&tokens(4), options).unwrap();
    assert!(run.next().is_some());
    flag.store(true, Ordering::Relaxed);
    assert_eq!(run.by_ref().count(), 0);
    assert_eq!((run.finish_reason(), run.tokens().len()), (Some(FinishReason::Cancelled), 1));
}

#[test]
fn sampled_text_repeats_with_its_seed() {
    let engine =
        Engine::load(ModelFiles::demo().unwrap(), Arc::clone(&GPU), &ModelOptions::default(), &mut |_| {
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let text = |seed: u64| -> String {
        let sampling = SamplingParams { seed: Some(seed), ..SamplingParams::default() };
        let options = GenerateOptions { sampling, max_new_tokens: Some(40), ..GenerateOptions::default() };
        engine.generate("Once upon a time", options).unwrap().map(|piece| piece.unwrap().text).collect()
    };
    assert_eq!(text(1), text(1));
    assert_ne!(text(1), text(2));
    assert!(!text(1).is_empty());
}

#[test]
fn logprobs_match_the_logits_of_the_model() {
    let engine = tiny();
    let options = GenerateOptions { logprobs: Some(3), ..greedy(Some(3), Overflow::Stop) };
    let mut session = engine.session();
    let mut seen = tokens(5);
    for piece in engine.generate_tokens(&seen.clone(), options).unwrap() {
        let piece = piece.unwrap();
        let logits = logits(&mut session, &seen);
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        let found = piece.logprobs.unwrap();
        let token = piece.token.unwrap();
        assert_eq!((found.token, found.top.len(), found.top[0].0), (token, 3, token));
        let expected = f64::from(logits[token as usize]) - sum.ln();
        assert!((f64::from(found.logprob) - expected).abs() < 1e-5);
        seen = vec![token];
    }
}

#[test]
fn the_context_can_be_shorter_than_the_models() {
    let engine =
        load_tiny(&GPU, &ModelOptions { n_ctx: Some(20), kv_dtype: DType::F32, ..ModelOptions::default() });
    assert_eq!(engine.n_ctx(), 20);
    assert!(engine.session().advance(&tokens(21)).is_err());
    for n_ctx in [0, 129] {
        let files = tiny_files();
        let options = ModelOptions { n_ctx: Some(n_ctx), ..ModelOptions::default() };
        let load =
            Engine::load(files, Arc::clone(&GPU), &options, &mut |_| std::ops::ControlFlow::Continue(()));
        assert!(matches!(load.err(), Some(Error::Input(_))));
    }
}

#[test]
fn engines_and_sessions_cross_threads() {
    fn check<T: Send + Sync>() {}
    check::<Engine>();
    fn sends<T: Send>() {}
    sends::<Session>();
    let engine = tiny();
    let expected = logits(&mut engine.session(), &tokens(40));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(logits(&mut engine.session(), &tokens(40)), expected));
        }
    });
}
