//! The host's time in a step, by kind of work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The host's work and time for running commands since the device was opened. The
/// difference of two readings gives the cost of the work between them
/// ([`StepTimings::since`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTimings {
    /// Command buffers submitted to the queue.
    pub submits: u64,
    /// Dispatches in them. A dispatch with an empty grid is not encoded and does not
    /// count.
    pub dispatches: u64,
    /// Time from the creation of the encoder to the end of its commands. It includes the
    /// step's uploads and excludes waits in between.
    pub encode: Duration,
    /// Time to submit the commands to the queue.
    pub submit: Duration,
    /// Time until the GPU was done and its results were mapped. This is the GPU's time,
    /// unless the host had other work to do.
    pub wait: Duration,
    /// Time to request the mapping of the results and to copy them.
    pub read: Duration,
}

impl StepTimings {
    /// Returns the work since the reading `earlier`.
    #[must_use]
    pub fn since(self, earlier: StepTimings) -> StepTimings {
        StepTimings {
            submits: self.submits.saturating_sub(earlier.submits),
            dispatches: self.dispatches.saturating_sub(earlier.dispatches),
            encode: self.encode.saturating_sub(earlier.encode),
            submit: self.submit.saturating_sub(earlier.submit),
            wait: self.wait.saturating_sub(earlier.wait),
            read: self.read.saturating_sub(earlier.read),
        }
    }
}

/// The running totals; times are in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct StepClock {
    pub(super) submits: AtomicU64,
    pub(super) dispatches: AtomicU64,
    pub(super) encode: AtomicU64,
    pub(super) submit: AtomicU64,
    pub(super) wait: AtomicU64,
    pub(super) read: AtomicU64,
}

/// Adds the nanoseconds since `start` to `sum`.
pub(super) fn add_since(sum: &AtomicU64, start: Instant) {
    sum.fetch_add(nanoseconds(start), Ordering::Relaxed);
}

/// Returns the nanoseconds since `start`.
pub(super) fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl StepClock {
    pub(super) fn read(&self) -> StepTimings {
        let count = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
        let time = |sum: &AtomicU64| Duration::from_nanos(count(sum));
        StepTimings {
            submits: count(&self.submits),
            dispatches: count(&self.dispatches),
            encode: time(&self.encode),
            submit: time(&self.submit),
            wait: time(&self.wait),
            read: time(&self.read),
        }
    }
}
