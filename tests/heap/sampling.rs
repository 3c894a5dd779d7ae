//! The sampler allocates nothing after construction. The test is in a separate file,
//! because it replaces the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wgpt::{Sampler, SamplingParams};

struct Counting;

thread_local! {
    /// Allocations of this thread; the test harness has other threads.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // `try_with`, because an allocation may occur while the thread is torn down.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to `System` unchanged.
#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn sampling_allocates_nothing_after_construction() {
    const VOCAB_SIZE: usize = 50257;
    // From peaked to flat, so that the nucleus grows and shrinks.
    let rows: Vec<Vec<f32>> = [20.0, 5.0, 1.0, 0.01]
        .iter()
        .map(|scale| {
            (0..VOCAB_SIZE).map(|i| ((i * 7919) % VOCAB_SIZE) as f32 / VOCAB_SIZE as f32 * scale).collect()
        })
        .collect();
    let history: Vec<u32> = (0..2000).map(|i| i * 25).collect();
    let on = SamplingParams::default();
    let penalised = SamplingParams { repetition_penalty: 1.2, logit_bias: [(3, 1.0)].into(), ..on.clone() };
    for params in [
        SamplingParams::greedy(),
        on.clone(),
        penalised,
        SamplingParams { top_k: 0, ..on.clone() },
        SamplingParams { top_k: 0, top_p: 1.0, ..on.clone() },
        SamplingParams { top_k: 30_000, min_p: 0.01, ..on },
    ] {
        let mut sampler = Sampler::new(params.clone(), VOCAB_SIZE).unwrap();
        let before = ALLOCATIONS.get();
        assert!(before > 0, "the counter counts");
        for row in &rows {
            sampler.sample(row, &history).unwrap();
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{params:?}");
    }
}
