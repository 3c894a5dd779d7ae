//! Code that several test programs share. What needs the door is absent from a program
//! that is built without the feature `internals`.
#![allow(dead_code, reason = "each test program uses a part")]

#[cfg(feature = "internals")]
pub mod faulty;
#[cfg(feature = "internals")]
pub mod files;
pub mod models;
#[cfg(feature = "internals")]
pub mod parts;
#[cfg(feature = "internals")]
pub mod random_gpt2;
#[cfg(feature = "internals")]
pub mod reference_model;

use tempfile::TempDir;
use wgpt::{Gpu, GpuOptions};

/// Adds the adapter that `WGPT_DEVICE` names, if any.
pub fn on_device(options: GpuOptions) -> GpuOptions {
    let device = std::env::var("WGPT_DEVICE").ok().filter(|device| !device.is_empty());
    GpuOptions { device, ..options }
}

/// Opens the device that `WGPT_DEVICE` names, or the best one.
///
/// Without an adapter the test fails: nothing is skipped silently.
pub fn open_gpu(options: GpuOptions) -> Gpu {
    match Gpu::open(&on_device(options)) {
        Ok(gpu) => gpu,
        Err(error) => panic!("these tests need a GPU adapter, a software one suffices: {error}"),
    }
}

/// Bound on the gap between two logits whose tokens may be swapped outside
/// `--deterministic`, where some paths sum in another order. It is twice the change of a
/// logit that an f16 cache may cause (tests/engine/batch.rs).
pub const GREEDY_BOUND: f32 = 1e-2;

/// Returns by how much the logits prefer `expected` to `found`.
pub fn gap(logits: &[f32], found: u32, expected: u32) -> f32 {
    logits[expected as usize] - logits[found as usize]
}

/// Copies a model of tests/golden with rotary positions, with a longer context.
pub fn lengthened(golden: &str, n_ctx: usize) -> TempDir {
    let golden = models::repository("tests/golden").join(golden);
    let config = std::fs::read(golden.join("config.json")).expect("a golden model's config");
    let mut config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
    let before = config["max_position_embeddings"].as_u64().expect("a context of so many positions");
    assert!(before < n_ctx as u64, "{} has a context of {before} already", golden.display());
    config["max_position_embeddings"] = n_ctx.into();
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("config.json"), config.to_string()).expect("a config");
    std::fs::copy(golden.join("model.safetensors"), dir.path().join("model.safetensors")).expect("a copy");
    dir
}
