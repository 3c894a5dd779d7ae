//! Buffers whose bytes are tracked in a ledger.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::memory::MemoryGroup;

/// Bytes currently allocated, by group and in total, and the peak of the total.
#[derive(Debug, Default)]
pub struct Ledger {
    bytes: [AtomicU64; MemoryGroup::ALL.len()],
    total: AtomicU64,
    peak: AtomicU64,
}

impl Ledger {
    /// Returns the bytes of one group.
    #[must_use]
    pub fn bytes(&self, group: MemoryGroup) -> u64 {
        self.bytes[group as usize].load(Ordering::Relaxed)
    }

    /// Returns the bytes of all groups.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Returns the maximum number of bytes that were allocated at one time.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    fn add(&self, group: MemoryGroup, bytes: u64) {
        self.bytes[group as usize].fetch_add(bytes, Ordering::Relaxed);
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(total, Ordering::Relaxed);
    }

    fn remove(&self, group: MemoryGroup, bytes: u64) {
        self.bytes[group as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The use of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferUse {
    /// Bound as storage or uniform, copied from and to.
    Storage,
    /// Bound as a uniform, copied to.
    Uniform,
    /// Mapped by the host for writing, copied from.
    Upload,
    /// Mapped by the host for reading, copied to.
    Readback,
    /// Receives resolved query results, copied from.
    Queries,
}

impl BufferUse {
    pub(super) const fn is_bound(self) -> bool {
        matches!(self, BufferUse::Storage | BufferUse::Uniform)
    }

    pub(super) fn flags(self) -> wgpu::BufferUsages {
        use wgpu::BufferUsages as U;
        match self {
            // UNIFORM is for the shared buffer of step structs. All other buffers are
            // bound as STORAGE.
            BufferUse::Storage => U::STORAGE | U::UNIFORM | U::COPY_DST | U::COPY_SRC,
            BufferUse::Uniform => U::UNIFORM | U::COPY_DST,
            BufferUse::Upload => U::MAP_WRITE | U::COPY_SRC,
            BufferUse::Readback => U::MAP_READ | U::COPY_DST,
            BufferUse::Queries => U::QUERY_RESOLVE | U::COPY_SRC,
        }
    }
}

/// A buffer whose bytes count in the device's [`Ledger`] until its last clone is dropped.
#[derive(Clone, Debug)]
pub struct GpuBuffer {
    pub(crate) raw: wgpu::Buffer,
    account: Arc<Account>,
}

/// One buffer's entry in the ledger.
#[derive(Debug)]
struct Account {
    bytes: u64,
    group: MemoryGroup,
    ledger: Arc<Ledger>,
}

impl GpuBuffer {
    pub(super) fn new(raw: wgpu::Buffer, bytes: u64, group: MemoryGroup, ledger: Arc<Ledger>) -> Self {
        ledger.add(group, bytes);
        GpuBuffer { raw, account: Arc::new(Account { bytes, group, ledger }) }
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.account.bytes
    }

    /// Returns the wgpu buffer, so that an application can compute with its contents.
    #[must_use]
    pub fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.ledger.remove(self.group, self.bytes);
    }
}

/// Returns the size that is allocated for a request of `bytes`: a multiple of 16 bytes,
/// at least 16.
#[must_use]
pub const fn rounded_bytes(bytes: u64) -> u64 {
    if bytes == 0 { 16 } else { bytes.next_multiple_of(16) }
}
