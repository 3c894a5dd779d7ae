//! A minimal executor: it polls when it is woken, and counts the polls.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use futures_core::Stream;

/// Far longer than anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Wakes a thread and counts the wakes.
pub(super) struct Wakes {
    thread: Thread,
    count: AtomicUsize,
}

impl Wakes {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Wakes { thread: std::thread::current(), count: AtomicUsize::new(0) })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits for a wake after the first `seen` wakes.
    pub(super) fn wait_beyond(&self, seen: usize) {
        let started = Instant::now();
        while self.count() == seen {
            assert!(started.elapsed() < PATIENCE, "nobody woke the executor");
            std::thread::park_timeout(PATIENCE);
        }
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Polls until the value is ready, and polls again only after a wake. Returns the value and
/// the number of polls.
fn drive<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> (T, usize) {
    let wakes = Wakes::new();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut polls = 0;
    loop {
        let seen = wakes.count();
        polls += 1;
        if let Poll::Ready(value) = poll(&mut Context::from_waker(&waker)) {
            return (value, polls);
        }
        wakes.wait_beyond(seen);
    }
}

/// Runs a future; returns its value and the number of polls.
pub(super) fn run<F: Future>(future: F) -> (F::Output, usize) {
    let mut future = pin!(future);
    drive(|context| future.as_mut().poll(context))
}

/// Returns a stream's next item and the number of polls.
pub(super) fn next<S: Stream + Unpin>(stream: &mut S) -> (Option<S::Item>, usize) {
    drive(|context| Pin::new(&mut *stream).poll_next(context))
}

/// Polls once with a waker that does nothing.
pub(super) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Waits until `holds` returns true.
pub(super) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}
