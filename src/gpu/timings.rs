//! Where the host's time of a step goes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the host did to run commands, since the device was opened: take the
/// difference of two readings ([`StepTimings::since`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTimings {
    /// Command buffers handed to the queue.
    pub submits: u64,
    /// Dispatches in them; one whose grid is empty is not encoded and does not
    /// count.
    pub dispatches: u64,
    /// From the encoder's creation to its finished commands, uploads of the
    /// step included; less what was waited meanwhile.
    pub encode: Duration,
    /// Handing the commands to the queue.
    pub submit: Duration,
    /// Until the GPU was done and its results were mapped: the GPU's own time
    /// as far as the host had nothing else to do.
    pub wait: Duration,
    /// Asking for the results' mapping and copying them.
    pub read: Duration,
}

impl StepTimings {
    /// What was done after `earlier` was read.
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

/// The running sums, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct StepClock {
    pub(super) submits: AtomicU64,
    pub(super) dispatches: AtomicU64,
    pub(super) encode: AtomicU64,
    pub(super) submit: AtomicU64,
    pub(super) wait: AtomicU64,
    pub(super) read: AtomicU64,
}

/// Adds the nanoseconds since `start`.
pub(super) fn add_since(sum: &AtomicU64, start: Instant) {
    sum.fetch_add(nanoseconds(start), Ordering::Relaxed);
}

/// Nanoseconds since `start`.
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
