//! Running calls that a flag or a deadline ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wgpt::{
    BatchLogits, CancelFlag, Engine, Error, ErrorKind, FinishReason, GenerateOptions, Gpu, GpuOptions,
    ModelOptions, SamplingParams, wgpu,
};

use super::host::Host;
use super::{deterministic, load};
use crate::support;

const CHUNK: usize = 8;
const TOKENS: [u32; 40 * CHUNK] = [7; 40 * CHUNK];

/// An engine on the host's device. The queue's callbacks run when the prefill polls, so a
/// test can act in the middle of a prefill.
struct Bed {
    queue: wgpu::Queue,
    gpu: Arc<Gpu>,
    engine: Engine,
    per_chunk: u64,
}

impl Bed {
    fn new() -> Self {
        let host = Host::with_required();
        let gpu = Arc::new(Gpu::from_host(host.context()).unwrap());
        let options = ModelOptions { prefill_chunk: CHUNK, steps_ahead: Some(0), ..deterministic() };
        let engine = load(&gpu, &options).unwrap();
        let before = gpu.step_timings().submits;
        engine.session().prefill(&TOKENS[..CHUNK]).unwrap();
        let per_chunk = gpu.step_timings().submits - before;
        Bed { queue: host.queue.clone(), gpu, engine, per_chunk }
    }

    /// Runs `act` at the next poll; returns where the number of submits by then will be
    /// stored.
    fn at_the_next_poll(&self, act: impl FnOnce() + Send + 'static) -> Arc<AtomicU64> {
        let submits = Arc::new(AtomicU64::new(0));
        let (seen, gpu) = (Arc::clone(&submits), Arc::downgrade(&self.gpu));
        self.queue.on_submitted_work_done(move || {
            act();
            seen.store(gpu.upgrade().unwrap().step_timings().submits, Ordering::SeqCst);
        });
        submits
    }

    fn check(&self, before: u64, submits: &AtomicU64, done: usize) {
        let seen = submits.load(Ordering::SeqCst);
        assert!(seen > before, "the callback ran during the prefill");
        let late = self.gpu.step_timings().submits - seen;
        assert!(late <= self.per_chunk, "{late} submits after the end, {} per chunk", self.per_chunk);
        assert!(done.is_multiple_of(CHUNK) && done > 0 && done < TOKENS.len(), "{done} tokens");
    }
}

#[test]
fn a_running_prefill_is_cancelled_within_one_chunk() {
    let bed = Bed::new();
    let flag = CancelFlag::default();
    let mut session = bed.engine.session();
    session.set_cancel(flag.clone());
    let before = bed.gpu.step_timings().submits;
    let raised = flag.clone();
    let submits = bed.at_the_next_poll(move || raised.store(true, Ordering::SeqCst));
    let prefill = std::thread::spawn(move || {
        let result = session.prefill(&TOKENS);
        (session, result)
    });
    let (mut session, result) = prefill.join().unwrap();
    assert!(matches!(result, Err(Error::Cancelled)));
    bed.check(before, &submits, session.len());
    // The session continues where it stopped.
    flag.store(false, Ordering::SeqCst);
    let done = session.len();
    let logits = session.advance(&TOKENS[done..]).unwrap().to_vec();
    assert_eq!(logits, bed.engine.session().advance(&TOKENS).unwrap());
}

#[test]
fn a_running_prefill_ends_within_one_chunk_of_its_deadline() {
    let bed = Bed::new();
    let mut session = bed.engine.session();
    // Far enough away for the prefill to start.
    let deadline = Instant::now() + Duration::from_secs(2);
    session.set_deadline(Some(deadline));
    let before = bed.gpu.step_timings().submits;
    let submits = bed.at_the_next_poll(move || {
        std::thread::sleep(deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(5));
    });
    let error = session.prefill(&TOKENS).unwrap_err();
    assert!(matches!(error, Error::Timeout), "{error}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    bed.check(before, &submits, session.len());
    session.set_deadline(None);
    let done = session.len();
    session.prefill(&TOKENS[done..]).unwrap();
}

fn own(options: ModelOptions) -> (Arc<Gpu>, Engine) {
    let gpu = Arc::new(support::open_gpu(GpuOptions::default()));
    let engine = load(&gpu, &options).unwrap();
    (gpu, engine)
}

#[test]
fn a_session_does_nothing_after_its_deadline() {
    let (gpu, engine) = own(deterministic());
    let mut session = engine.session();
    let mut other = engine.session();
    session.prefill(&[1, 2, 3]).unwrap();
    other.prefill(&[4]).unwrap();
    session.set_deadline(Some(Instant::now()));
    let before = gpu.step_timings().submits;
    assert!(matches!(session.advance(&[5]), Err(Error::Timeout)));
    assert!(matches!(session.score(&[5]), Err(Error::Timeout)));
    // A fork has the same deadline.
    assert!(matches!(session.fork().prefill(&[5]), Err(Error::Timeout)));
    assert_eq!(gpu.step_timings().submits, before);
    // A step ends at the deadline of any of its sessions, and undoes the passes that ran
    // before.
    let step = engine.step(&mut [&mut session, &mut other], &[5, 6], &mut BatchLogits::new());
    assert!(matches!(step, Err(Error::Timeout)));
    assert_eq!((session.tokens(), other.tokens()), (&[1, 2, 3][..], &[4][..]));
    session.set_deadline(Some(Instant::now() + Duration::from_secs(3600)));
    session.prefill(&[5]).unwrap();
}

#[test]
fn a_text_ends_at_its_time_limit_and_keeps_its_tokens() {
    for steps_ahead in [0, 4] {
        let (gpu, engine) = own(ModelOptions { steps_ahead: Some(steps_ahead), ..ModelOptions::default() });
        let options = |timeout| GenerateOptions {
            sampling: SamplingParams { temperature: 0.0, ..SamplingParams::default() },
            ignore_eos: true,
            timeout: Some(timeout),
            ..GenerateOptions::default()
        };
        let before = gpu.step_timings().submits;
        let mut none = engine.generate("Once", options(Duration::ZERO)).unwrap();
        assert!(none.next().is_none());
        assert_eq!(none.finish_reason(), Some(FinishReason::Timeout));
        assert_eq!(FinishReason::Timeout.name(), "timeout");
        assert_eq!(gpu.step_timings().submits, before, "nothing ran");

        let limit = Duration::from_secs(2);
        let started = Instant::now();
        let mut some = engine.generate("Once", options(limit)).unwrap();
        let first = some.next().unwrap().unwrap();
        std::thread::sleep((limit + Duration::from_millis(5)).saturating_sub(started.elapsed()));
        let rest: Vec<_> = some.by_ref().map(Result::unwrap).collect();
        assert!(rest.iter().all(|piece| piece.token.is_none()), "no token after the end");
        assert_eq!(some.tokens(), [first.token.unwrap()]);
        assert_eq!(some.finish_reason(), Some(FinishReason::Timeout));

        // A duration beyond the clock's range means no limit.
        let few = GenerateOptions { max_new_tokens: Some(2), ..options(Duration::MAX) };
        let mut few = engine.generate("Once", few).unwrap();
        few.by_ref().for_each(|piece| drop(piece.unwrap()));
        assert_eq!((few.tokens().len(), few.finish_reason()), (2, Some(FinishReason::Length)));
    }
}
