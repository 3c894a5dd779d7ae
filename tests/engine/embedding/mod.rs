//! The library inside an application: the host's device, faults, changes of device, loads
//! and texts that are ended from outside, futures and streams.

mod builder;
mod executor;
mod exhaustion;
mod faults;
mod host;
mod limits;
mod rebind;
mod stream;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use wgpt::internals::gpu::FaultInjector;
use wgpt::{Engine, Gpu, GpuOptions, ModelFiles, ModelOptions};

use crate::support;

/// Opens a separate device into which faults can be injected.
fn faulty_gpu() -> (Arc<Gpu>, FaultInjector) {
    let gpu = Arc::new(support::open_gpu(GpuOptions::default()));
    let faults = gpu.faults();
    (gpu, faults)
}

fn load(gpu: &Arc<Gpu>, options: &ModelOptions) -> wgpt::Result<Engine> {
    let files = ModelFiles::demo()?;
    Engine::load(files, Arc::clone(gpu), options, &mut |_| ControlFlow::Continue(()))
}

/// A chunk or a step is one submit, however slow the machine: tests count them.
fn deterministic() -> ModelOptions {
    ModelOptions { deterministic: true, max_submit: Duration::from_secs(3600), ..ModelOptions::default() }
}
