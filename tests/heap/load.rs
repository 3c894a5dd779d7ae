//! The Rust heap while a model is loaded. The whole process is counted, so each test of
//! this binary that touches an engine holds [`alone`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wgpt::ModelOptions;
use wgpt::DType;

use crate::files;
use crate::random_gpt2::RandomGpt2;

struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

fn grow(bytes: usize) {
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK_BYTES.fetch_max(live, Ordering::Relaxed);
}

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
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `block` came from `alloc` above with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Keeps other tests from running at the same time.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the current heap bytes.
pub fn live_bytes() -> usize {
    LIVE_BYTES.load(Ordering::Relaxed)
}

/// Returns the largest number of heap bytes that `action` held, beyond those held before.
pub fn peak_bytes<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    let result = action();
    (result, PEAK_BYTES.load(Ordering::Relaxed) - before)
}

const MIB: usize = 1 << 20;

/// Loads `dir` as f16 and as f32; neither may grow the heap by more than `bound` bytes.
fn load_within(dir: &Path, file_bytes: usize, bound: usize) {
    assert!(bound < file_bytes / 2, "a bound that a whole copy in f16 would meet proves nothing");
    for dtype in [DType::F16, DType::F32] {
        let options = ModelOptions { dtype, ..ModelOptions::default() };
        let (engine, peak) = peak_bytes(|| files::engine(dir).options(options).build().unwrap());
        println!("{dtype}: the heap grew by {:.1} MiB at most", peak as f64 / MIB as f64);
        assert!(peak > MIB, "{peak} bytes: the counter does not see the loader's own block");
        assert!(peak <= bound, "{dtype}: the heap grew by {peak} bytes, more than {bound}");
        // The loaded model runs.
        assert_eq!(engine.session().advance(&[1, 2, 3]).unwrap().len(), engine.vocab_size());
    }
}

#[test]
fn loading_holds_no_copy_of_the_model() {
    let _alone = alone();
    let file_bytes = 4 * 12_642_880;
    load_within(files::long_matrices_dir(), file_bytes, 20 * MIB);
}

/// Writes and reads half a gigabyte.
#[test]
#[ignore = "half a minute, optimized: make test-all"]
fn loading_gpt2_124m_grows_the_heap_by_at_most_64_mib() {
    let _alone = alone();
    let model = RandomGpt2::shape("gpt2").unwrap();
    let dir = files::write(&model);
    load_within(dir.path(), 4 * 124_439_808, 64 * MIB);
}
