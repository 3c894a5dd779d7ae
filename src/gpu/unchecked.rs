//! The unsafe calls into wgpu: shaders without bounds checks, data for the driver's
//! pipeline cache, and consent to experimental features.
#![allow(unsafe_code, reason = "the unsafe calls are kept together here")]

use super::{Gpu, Params, Recorder};

impl<'g> Recorder<'g> {
    /// Returns an empty recording whose shaders are compiled without bounds checks,
    /// without bounded loops and without zeroed workgroup memory, unless
    /// [`GpuOptions::checked_shaders`](super::GpuOptions::checked_shaders) is set.
    ///
    /// # Safety
    /// A shader that reads or writes outside its buffers or arrays is undefined
    /// behaviour. While a dispatch of this recording can run, the caller must keep the
    /// contract of [`crate::kernels::contract`].
    pub unsafe fn unchecked(gpu: &'g Gpu, params: &'g mut Params) -> Self {
        let mut recorder = Recorder::new(gpu, params);
        recorder.checked = gpu.options().checked_shaders;
        recorder
    }
}

/// Compiles WGSL without wgpu's checks, for a recording from [`Recorder::unchecked`].
pub(super) fn unchecked_module(
    device: &wgpu::Device,
    source: wgpu::ShaderModuleDescriptor<'_>,
) -> wgpu::ShaderModule {
    // SAFETY: only a `Recorder` from `Recorder::unchecked` requests such a module. Its
    // caller has promised that every access stays within its bounds and every loop ends.
    // If the driver has robust buffer access, wgpu requests it as additional protection.
    unsafe { device.create_shader_module_trusted(source, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// Creates a pipeline cache from `data` that `pipeline_cache::unseal` has accepted.
pub(super) fn pipeline_cache(
    device: &wgpu::Device,
    descriptor: &wgpu::PipelineCacheDescriptor<'_>,
) -> wgpu::PipelineCache {
    // SAFETY: `get_data` returned the data on this adapter, with this driver and this
    // wgpu. `unseal` has compared a digest of all four, so neither a damaged nor a
    // foreign file reaches this call. wgpu compares adapter and driver once more. The
    // directory belongs to the user, like the program's own file.
    unsafe { device.create_pipeline_cache(descriptor) }
}

/// wgpu's token of consent to experimental features. It is enabled if `features` contains
/// one.
pub(super) fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: the caller must accept that these features may be faulty. The only one
    // requested, cooperative matrices, has no effect until a shader declares it. The gemm
    // that declares it is no device's default. It runs only if the user names it, or if
    // tuning has checked it against the reference. Its indices are bounded like every
    // kernel's.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
