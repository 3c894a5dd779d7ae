//! What decoding costs beside arithmetic: nothing may be created for a token.
//!
//! One test in a binary of its own, since it counts every heap allocation.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use wgpt::gpu::GpuOptions;
use wgpt::sampling::{Sampler, SamplingParams};
use wgpt::{Engine, Error, Session};

/// Bytes allocated since the start, and bytes held.
static ALLOCATED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        FREED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap bytes allocated and bytes held after, for each of `n` tokens.
fn decode(session: &mut Session, sampler: &mut Option<Sampler>, n: usize) -> Vec<(u64, u64)> {
    let mut token = 5;
    let mut costs = Vec::with_capacity(n);
    for _ in 0..n {
        let before = ALLOCATED.load(Ordering::Relaxed);
        token = match sampler {
            Some(sampler) => {
                let logits = session.advance(&[token]).unwrap();
                sampler.sample(logits, &[]).unwrap()
            }
            None => session.advance_greedy(&[token]).unwrap(),
        };
        let allocated = ALLOCATED.load(Ordering::Relaxed);
        costs.push((allocated - before, allocated - FREED.load(Ordering::Relaxed)));
    }
    costs
}

#[test]
fn decoding_creates_nothing() -> Result<(), Error> {
    let device = std::env::var("WGPT_DEVICE").ok();
    let open = |strategy| {
        let gpu = GpuOptions { device: device.clone(), strategy, ..GpuOptions::default() };
        Engine::builder().gpu(gpu).build()
    };
    for strategy in open(None)?.gpu().strategies() {
        let engine = open(Some(strategy))?;
        for sampled in [false, true] {
            check(&engine, sampled)?;
        }
    }
    Ok(())
}

fn check(engine: &Engine, sampled: bool) -> Result<(), Error> {
    let case = format!("{:?}, sampled: {sampled}", engine.gpu().strategy());
    let mut sampler = match sampled {
        true => Some(Sampler::new(SamplingParams::default(), engine.vocab_size())?),
        false => None,
    };
    let mut session = engine.session();
    session.prefill(&[0, 1, 2, 3])?;
    decode(&mut session, &mut sampler, 20);
    let before = engine.gpu().counters();
    let costs = decode(&mut session, &mut sampler, 400);
    let after = engine.gpu().counters();
    // No buffer, bind group, pipeline; no write_buffer.
    assert_eq!(before, after, "{case}");
    // wgpu allocates for each encoder, dispatch and submit; that must not grow
    // with the position, and must not stay. Both parts lie beyond position 256,
    // where the split attention has its merge, a dispatch more a layer.
    let (early, late) = (&costs[236..316], &costs[316..]);
    // The least of a part: whether wgpu finds an encoder to use again depends on
    // when the last one was given back, and varies by tens of kB.
    let allocated = |part: &[(u64, u64)]| part.iter().map(|cost| cost.0).min();
    let held = |part: &[(u64, u64)]| part.iter().map(|cost| cost.1).min();
    let (Some(early_allocated), Some(late_allocated)) = (allocated(early), allocated(late)) else {
        panic!("{case}: no token was counted");
    };
    let (Some(early_held), Some(late_held)) = (held(early), held(late)) else {
        panic!("{case}: no token was counted");
    };
    println!("{case}: {late_allocated} bytes a token, {late_held} held");
    // The page table's u32 entries are all that may differ.
    assert!(late_allocated <= early_allocated + 256, "{case}: {early_allocated} to {late_allocated}");
    assert!(late_held <= early_held + 4096, "{case}: {early_held} to {late_held}");
    Ok(())
}
