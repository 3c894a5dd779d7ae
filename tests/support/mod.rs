//! What several test programs share.

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
