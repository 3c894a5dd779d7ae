//! The engine through its door: sessions, batches, budgets, saved sessions, loading, the
//! host's device. Pages, buffers and the device's counters are compared with what a model
//! should take.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod batch;
mod budget;
mod embedding;
mod load;
mod lookup;
mod overflow;
mod saved;
mod score;
mod session;
mod steps_ahead;
#[path = "../support/mod.rs"]
mod support;
mod windows;

use std::ops::ControlFlow;
use std::sync::Arc;

use support::open_gpu;
use wgpt::{DType, Engine, Gpu, GpuOptions, ModelFiles, ModelOptions};

/// Returns one device per strategy of the adapter, and the floor with bounds checks in
/// the shaders.
fn every_gpu() -> Vec<Gpu> {
    let open = |strategy| open_gpu(GpuOptions { strategy, ..GpuOptions::default() });
    let mut all: Vec<Gpu> = open(None).strategies().into_iter().map(|s| open(Some(s))).collect();
    all.push(open_gpu(GpuOptions { features_floor: true, checked_shaders: true, ..GpuOptions::default() }));
    all
}

fn load_files(files: ModelFiles, gpu: &Arc<Gpu>, options: &ModelOptions) -> Engine {
    Engine::load(files, Arc::clone(gpu), options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn tiny_files() -> ModelFiles {
    ModelFiles::open("tests/golden/gpt2-tiny".as_ref()).unwrap()
}

/// Loads gpt2-tiny: 1000 tokens, 128 positions, 2 layers of width 64.
fn load_tiny(gpu: &Arc<Gpu>, options: &ModelOptions) -> Engine {
    load_files(tiny_files(), gpu, options)
}

/// Equal sequences give equal bits.
fn deterministic() -> ModelOptions {
    ModelOptions { deterministic: true, ..ModelOptions::default() }
}

fn f32_options() -> ModelOptions {
    ModelOptions { dtype: DType::F32, kv_dtype: DType::F32, ..ModelOptions::default() }
}

/// Returns `n` tokens of gpt2-tiny.
fn tokens(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * 37 + 11) % 1000).collect()
}
