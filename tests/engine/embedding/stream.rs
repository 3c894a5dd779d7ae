//! Texts as streams, sessions as futures.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use wgpt::internals::gpu::{Call, Fault};
use wgpt::{
    CancelFlag, Engine, Error, FinishReason, GenerateOptions, GenerationStream, Gpu, ModelOptions, Piece,
    Result, SamplingParams,
};

use super::executor::{self, poll_once, wait_until};
use super::{deterministic, faulty_gpu, load};

/// A chunk takes one submit, a token another one.
const CHUNK: usize = 16;

fn engine() -> (Arc<Gpu>, Engine) {
    let (gpu, _) = faulty_gpu();
    let options = ModelOptions { prefill_chunk: CHUNK, steps_ahead: Some(0), ..deterministic() };
    let engine = load(&gpu, &options).unwrap();
    (gpu, engine)
}

fn options() -> GenerateOptions {
    let sampling = SamplingParams { seed: Some(5), ..SamplingParams::default() };
    GenerateOptions { sampling, max_new_tokens: Some(30), ignore_eos: true, ..GenerateOptions::default() }
}

const PROMPT: &str = "Once upon a time there was";

/// Returns a prompt of thirty chunks.
fn long_prompt() -> Vec<u32> {
    (0..30 * CHUNK as u32).map(|i| 1 + i * 37 % 2000).collect()
}

fn collect(stream: &mut GenerationStream) -> Vec<Result<Piece>> {
    std::iter::from_fn(|| executor::next(stream).0).collect()
}

#[test]
fn a_stream_gives_the_pieces_of_the_iterator() {
    for steps_ahead in [0, 4] {
        let (gpu, _) = faulty_gpu();
        let engine =
            load(&gpu, &ModelOptions { steps_ahead: Some(steps_ahead), ..ModelOptions::default() }).unwrap();
        let expected: Vec<Piece> =
            engine.generate(PROMPT, options()).unwrap().collect::<Result<_>>().unwrap();
        assert!(expected.len() >= 30);
        let mut stream = engine.generate_stream(PROMPT, options()).unwrap();
        assert_eq!(stream.generation().unwrap().finish_reason(), None);
        let mut pieces = Vec::new();
        loop {
            let (item, polls) = executor::next(&mut stream);
            // The first poll, and the one after a wake; a late wake may be for an item
            // that was already taken.
            assert!(polls <= 3, "{polls} polls for one item");
            let Some(item) = item else { break };
            assert!(stream.generation().is_none(), "the thread has the generation");
            pieces.push(item.unwrap());
        }
        assert_eq!(pieces, expected);
        assert!(executor::next(&mut stream).0.is_none(), "an ended stream stays at its end");
        assert_eq!(stream.generation().unwrap().finish_reason(), Some(FinishReason::Length));
        let generation = stream.finish().unwrap();
        assert_eq!(generation.tokens().len(), 30);
        assert_eq!(generation.timings().generated_tokens, 30);
        // Any executor works: here one that knows only futures.
        let mut stream = engine.generate_stream(PROMPT, options()).unwrap();
        let next = std::future::poll_fn(|context| {
            futures_core::Stream::poll_next(std::pin::Pin::new(&mut stream), context)
        });
        assert_eq!(pollster::block_on(next).unwrap().unwrap(), expected[0]);
    }
}

#[test]
fn an_unread_stream_waits() {
    let (gpu, engine) = engine();
    let expected: Vec<Piece> = engine.generate(PROMPT, options()).unwrap().collect::<Result<_>>().unwrap();
    let before = gpu.step_timings().submits;
    let mut stream = engine.generate_stream(PROMPT, options()).unwrap();
    assert_eq!(gpu.step_timings().submits, before, "nothing runs before the first poll");
    let first = executor::next(&mut stream).0.unwrap().unwrap();
    // Wait until nothing has happened for a while.
    let (mut submits, mut since) = (before, Instant::now());
    wait_until("the stream comes to rest", || {
        let now = gpu.step_timings().submits;
        if now != submits {
            (submits, since) = (now, Instant::now());
        }
        since.elapsed() > Duration::from_millis(300)
    });
    // One token was taken, four are ready, one waits for space: one submit each.
    assert!(submits - before <= 6, "{} tokens of 30 ran ahead", submits - before);
    let rest = collect(&mut stream).into_iter().collect::<Result<Vec<_>>>().unwrap();
    assert_eq!([vec![first], rest].concat(), expected);
}

#[test]
fn a_dropped_stream_ends_within_a_chunk() {
    let (gpu, engine) = engine();
    let mut session = engine.session();
    let before = gpu.step_timings().submits;
    session.prefill(&long_prompt()[..CHUNK]).unwrap();
    let per_chunk = gpu.step_timings().submits - before;
    drop(session);
    // In the middle of the prompt, or in the middle of the text, when the thread waits
    // for space.
    for prompt in [long_prompt(), vec![1]] {
        let before = gpu.step_timings().submits;
        let mut stream = engine.generate_tokens(&prompt, options()).unwrap().into_stream();
        assert!(poll_next_once(&mut stream).is_pending());
        wait_until("the text begins", || gpu.step_timings().submits > before);
        drop(stream);
        std::sync::atomic::fence(Ordering::SeqCst);
        let dropped = gpu.step_timings().submits;
        wait_until("the session is dropped", || engine.kv_pages().0 == 0);
        let late = gpu.step_timings().submits - dropped;
        assert!(late <= per_chunk, "{late} submits after the end, {per_chunk} per chunk");
    }
    // The thread holds nothing after its end.
    let mut stream = engine.generate_tokens(&long_prompt(), options()).unwrap().into_stream();
    assert!(poll_next_once(&mut stream).is_pending());
    drop((stream, engine));
    wait_until("the thread lets go", || Arc::strong_count(&gpu) == 1);
    assert_eq!(gpu.ledger().total_bytes(), 0);
}

fn poll_next_once(stream: &mut GenerationStream) -> Poll<Option<Result<Piece>>> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    futures_core::Stream::poll_next(std::pin::Pin::new(stream), &mut context)
}

#[test]
fn finishing_a_stream_ends_the_text_and_returns_it() {
    let (_, engine) = engine();
    let mut stream = engine.generate_stream(PROMPT, options()).unwrap();
    assert!(executor::next(&mut stream).0.unwrap().is_ok());
    let generation = stream.finish().unwrap();
    assert!((1..30).contains(&generation.tokens().len()), "{}", generation.tokens().len());
    // The flag ended it, or it ended between two pieces, when nothing was cancelled.
    assert!(matches!(generation.finish_reason(), None | Some(FinishReason::Cancelled)));
    // A stream that was never polled is returned unchanged.
    let generation = engine.generate_stream(PROMPT, options()).unwrap().finish().unwrap();
    assert_eq!(generation.count(), engine.generate(PROMPT, options()).unwrap().count());
}

#[test]
fn the_callers_flag_ends_a_stream() {
    let (_, engine) = engine();
    let cancel = CancelFlag::default();
    let options = GenerateOptions { cancel: Some(cancel.clone()), max_new_tokens: None, ..options() };
    let mut stream = engine.generate_stream(PROMPT, options).unwrap();
    assert!(executor::next(&mut stream).0.unwrap().is_ok());
    cancel.store(true, Ordering::Relaxed);
    assert!(collect(&mut stream).iter().all(Result::is_ok));
    assert_eq!(stream.generation().unwrap().finish_reason(), Some(FinishReason::Cancelled));
}

#[test]
fn an_error_is_an_item_and_the_text_can_continue() {
    let (gpu, faults) = faulty_gpu();
    let engine = load(&gpu, &deterministic()).unwrap();
    let whole: Vec<Piece> = engine.generate(PROMPT, options()).unwrap().collect::<Result<_>>().unwrap();
    let mut stream = engine.generate_stream(PROMPT, options()).unwrap();
    faults.inject(Call::Submit, 8, Fault::Validation);
    let mut items = collect(&mut stream);
    let error = items.pop().unwrap().unwrap_err();
    assert!(matches!(error, Error::Gpu { .. }), "{error}");
    let mut pieces: Vec<Piece> = items.into_iter().collect::<Result<_>>().unwrap();
    assert!(!pieces.is_empty() && pieces.len() < 30);
    let mut generation = stream.finish().unwrap();
    generation.resume();
    pieces.extend(collect(&mut generation.into_stream()).into_iter().map(Result::unwrap));
    assert_eq!(pieces, whole);
}

#[test]
fn a_session_can_run_as_a_future() {
    let (gpu, engine) = engine();
    let expected = engine.session().advance(&[3, 4, 5]).unwrap().to_vec();
    let future = engine.session().run_async(|session| session.prefill(&[3, 4]));
    let ((session, done), polls) = {
        let (result, polls) = executor::run(future);
        (result.unwrap(), polls)
    };
    assert!(done.is_ok() && session.tokens() == [3, 4] && polls <= 2);
    // The session continues, and its forks are not cancelled by a later call.
    let (mut session, logits) = pollster::block_on(
        session.run_async(|session| (session.fork(), session.advance(&[5]).map(<[f32]>::to_vec))),
    )
    .unwrap();
    let (mut fork, logits) = logits;
    assert_eq!(logits.unwrap(), expected);
    assert_eq!(fork.advance(&[5]).unwrap(), expected);
    session.prefill(&[6]).unwrap();
    drop((session, fork));

    let prompt = long_prompt();
    let before = gpu.step_timings().submits;
    let mut future = engine.session().run_async(move |session| session.prefill(&prompt));
    assert!(poll_once(&mut future).is_pending());
    wait_until("the prefill begins", || gpu.step_timings().submits > before);
    future.stop();
    assert_eq!(engine.kv_pages().0, 0);
    let submits = gpu.step_timings().submits - before;
    assert!(submits <= 31, "{submits}");
}
