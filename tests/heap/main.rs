//! The Rust heap: what loading, sessions, decoding, checkpoints and the sampler allocate
//! and hold. This program owns the allocator. The counts of the process include every
//! thread, so each test holds [`alone`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkpoint;
mod decode;
mod load;
mod sampling;
mod sessions;
#[path = "../support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const MIB: usize = 1 << 20;

/// Bytes of the process that are live, and the most that were live at once.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the process that were allocated and freed since the start.
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);
static FREED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts of one thread.
#[derive(Clone, Copy)]
struct OfThread {
    allocations: usize,
    /// Negative on a thread that frees what another one allocated.
    live_bytes: isize,
    peak_bytes: isize,
}

thread_local! {
    static OF_THREAD: Cell<OfThread> =
        const { Cell::new(OfThread { allocations: 0, live_bytes: 0, peak_bytes: 0 }) };
}

fn grow(bytes: usize) {
    ALLOCATED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
    // A thread that is ending has lost its counts.
    let _ = OF_THREAD.try_with(|cell| {
        let mut counts = cell.get();
        counts.allocations += 1;
        counts.live_bytes += bytes as isize;
        counts.peak_bytes = counts.peak_bytes.max(counts.live_bytes);
        cell.set(counts);
    });
}

fn shrink(bytes: usize) {
    FREED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    LIVE_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    let _ = OF_THREAD.try_with(|cell| {
        let mut counts = cell.get();
        counts.live_bytes -= bytes as isize;
        cell.set(counts);
    });
}

struct Counting;

// SAFETY: every call is passed on to the system allocator unchanged; counting allocates
// nothing. `realloc` is the trait's default: it allocates a new block, copies, and frees
// the old block, so both blocks are counted as live at once.
#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller upholds `alloc`'s contract for `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller upholds `alloc_zeroed`'s contract for `layout`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: `block` came from `alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps other tests from running at the same time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the live heap bytes of the process.
fn live_bytes() -> usize {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// Returns the heap bytes that the process has allocated since the start.
fn allocated_bytes() -> u64 {
    ALLOCATED_BYTES.load(Ordering::Relaxed)
}

/// Returns the heap bytes that the process has freed since the start.
fn freed_bytes() -> u64 {
    FREED_BYTES.load(Ordering::Relaxed)
}

/// Returns the largest number of heap bytes that the process held during `action`, beyond
/// those held before.
fn peak_bytes<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = live_bytes();
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = action();
    (result, PEAK_BYTES.load(Ordering::Relaxed) - before)
}

/// Returns the number of allocations of this thread.
fn thread_allocations() -> usize {
    OF_THREAD.get().allocations
}

/// Returns the largest number of heap bytes that this thread held during `action`, beyond
/// those held before.
fn thread_peak_bytes<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = OF_THREAD.get();
    OF_THREAD.set(OfThread { peak_bytes: before.live_bytes, ..before });
    let result = action();
    (result, (OF_THREAD.get().peak_bytes - before.live_bytes) as usize)
}
