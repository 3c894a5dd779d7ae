//! Counters of the resources created on a device.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Gpu;

/// The number of resources created and of writes made since the device was opened.
///
/// A test of the decode loop reads the counters before and after a token. After warm-up,
/// a token must not change any of them.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) buffers: AtomicU64,
    pub(super) bind_groups: AtomicU64,
    pub(super) pipelines: AtomicU64,
    pub(super) queue_writes: AtomicU64,
}

/// A reading of the device's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterReading {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines created.
    pub pipelines: u64,
    /// Calls of `write_buffer`.
    pub queue_writes: u64,
}

impl Gpu {
    /// Returns the current values of the counters.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn counters(&self) -> CounterReading {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CounterReading {
            buffers: read(&self.counters.buffers),
            bind_groups: read(&self.counters.bind_groups),
            pipelines: read(&self.counters.pipelines),
            queue_writes: read(&self.counters.queue_writes),
        }
    }
}
