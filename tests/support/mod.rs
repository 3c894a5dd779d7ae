//! What several test programs share.

#[allow(dead_code, reason = "not every test program needs faults")]
pub mod faulty;

use wgpt::gpu::{Gpu, GpuOptions};

/// Opens the device that `WGPT_DEVICE` names, or the best one there is.
///
/// A machine without an adapter fails the test: nothing is skipped in silence.
pub fn open_gpu(options: GpuOptions) -> Gpu {
    let device = std::env::var("WGPT_DEVICE").ok().filter(|device| !device.is_empty());
    match Gpu::open(&GpuOptions { device, ..options }) {
        Ok(gpu) => gpu,
        Err(error) => panic!("these tests need a GPU adapter, a software one suffices: {error}"),
    }
}

/// By the rule of the two modes of arithmetic: outside `--deterministic`, paths
/// that sum in another order may choose another token where plain decoding has
/// the two closer than this: twice what an f16 cache may move a logit by
/// (tests/batch.rs).
#[allow(dead_code, reason = "not every test program compares tokens")]
pub const GREEDY_BOUND: f32 = 1e-2;

/// By how much the logits prefer `expected` over `found`.
#[allow(dead_code, reason = "not every test program compares tokens")]
pub fn gap(logits: &[f32], found: u32, expected: u32) -> f32 {
    logits[expected as usize] - logits[found as usize]
}
