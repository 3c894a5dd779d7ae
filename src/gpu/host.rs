//! A device that the host program opened.

use super::adapter::{self, AdapterReport, Backend, DevicePreview, GpuOptions};
use super::{Gpu, LossSignal};
use crate::error::{Error, Result};

/// The host program's device, shared with the engine. Both exchange buffers without a
/// copy and use the same queue.
///
/// The engine polls the device when it waits. The host program may poll it too. The
/// engine installs no handler or callback on the device.
#[derive(Clone, Debug)]
pub struct GpuContext {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    options: GpuOptions,
    loss: LossSignal,
}

impl GpuContext {
    /// Wraps the host program's handles. wgpu counts references, so the handles may be
    /// clones. [`required`] returns the features and limits to request when the device is
    /// opened.
    #[must_use]
    pub fn from_host(adapter: wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let (options, loss) = (GpuOptions::default(), LossSignal::default());
        GpuContext { adapter, device, queue, options, loss }
    }

    /// Sets the selection of kernels and the location of caches. Options that select an
    /// adapter ([`GpuOptions::device`], [`GpuOptions::backend`]) have no effect here.
    #[must_use]
    pub fn options(mut self, options: GpuOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the signal that the host program's device-lost callback should set.
    /// Without it, the engine detects a loss only at its next readback.
    #[must_use]
    pub fn loss_signal(&self) -> LossSignal {
        self.loss.clone()
    }
}

/// The features and limits that a device needs to run an engine in addition to its host
/// program.
#[derive(Clone, Debug)]
pub struct Required {
    /// Features that kernels use if the adapter has them; none is mandatory. Experimental
    /// features are excluded, because an application must opt in to them.
    pub features: wgpu::Features,
    /// The portable limits, with the adapter's own sizes of buffers and bindings. With
    /// these sizes, a model's matrices are split into fewer pieces.
    pub limits: wgpu::Limits,
}

impl Required {
    /// Adds these to the host program's own request: all features of both, and the better
    /// of each pair of limits.
    pub fn add_to(&self, descriptor: &mut wgpu::DeviceDescriptor<'_>) {
        descriptor.required_features |= self.features;
        descriptor.required_limits = descriptor.required_limits.clone().or_better_values_from(&self.limits);
    }
}

/// Returns the features and limits with which to open a device that an engine will use.
#[must_use]
pub fn required(adapter: &wgpu::Adapter) -> Required {
    let offered = adapter.limits();
    let features = (adapter.features() & (adapter::USEFUL_FEATURES | wgpu::Features::PIPELINE_CACHE))
        - wgpu::Features::all_experimental_mask();
    let mut limits = wgpu::Limits::default();
    limits.max_buffer_size = limits.max_buffer_size.max(offered.max_buffer_size);
    limits.max_storage_buffer_binding_size =
        limits.max_storage_buffer_binding_size.max(offered.max_storage_buffer_binding_size);
    // If an adapter's limit is below the portable one, the adapter's is requested.
    // `Gpu::from_host` then reports the limits that are too low.
    Required { features, limits: limits.or_worse_values_from(&offered) }
}

/// Returns one line for each limit that is too low for the kernels. Sizes of buffers and
/// bindings are not checked, because matrices are split to fit.
fn missing_limits(device: &wgpu::Limits, adapter: &wgpu::Limits) -> Vec<String> {
    let floor = wgpu::Limits::default();
    let at_least = |name: &str, value: fn(&wgpu::Limits) -> u32| {
        let (has, needs, offers) = (value(device), value(&floor), value(adapter));
        (has < needs).then(|| format!("{name}: has {has}, needs {needs}, the adapter offers {offers}"))
    };
    let at_most = |name: &str, value: fn(&wgpu::Limits) -> u32| {
        let (has, needs, offers) = (value(device), value(&floor), value(adapter));
        (has > needs)
            .then(|| format!("{name}: has {has}, needs {needs} or less, the adapter offers {offers}"))
    };
    [
        at_least("max_storage_buffers_per_shader_stage", |l| l.max_storage_buffers_per_shader_stage),
        at_least("max_uniform_buffers_per_shader_stage", |l| l.max_uniform_buffers_per_shader_stage),
        at_least("max_bindings_per_bind_group", |l| l.max_bindings_per_bind_group),
        at_least("max_compute_invocations_per_workgroup", |l| l.max_compute_invocations_per_workgroup),
        at_least("max_compute_workgroup_storage_size", |l| l.max_compute_workgroup_storage_size),
        at_least("max_compute_workgroup_size_x", |l| l.max_compute_workgroup_size_x),
        at_least("max_compute_workgroups_per_dimension", |l| l.max_compute_workgroups_per_dimension),
        at_most("min_uniform_buffer_offset_alignment", |l| l.min_uniform_buffer_offset_alignment),
        at_most("min_storage_buffer_offset_alignment", |l| l.min_storage_buffer_offset_alignment),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn backend(info: &wgpu::AdapterInfo) -> Result<Backend> {
    Backend::from_wgpu(info.backend).ok_or_else(|| {
        let (name, backend) = (&info.name, info.backend);
        Error::NoAdapter(format!("{name} ({backend:?}): wgpt runs on Vulkan, Metal and DX12"))
    })
}

impl DevicePreview {
    /// Previews the device that an application would open on `adapter` with [`required`].
    ///
    /// # Errors
    /// [`Error::NoAdapter`] for an API that is not supported.
    pub fn of_adapter(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self> {
        let Required { features, limits } = required(adapter);
        let report = AdapterReport::new(adapter, backend(&adapter.get_info())?);
        Ok(Self::new(report, features, &limits, options))
    }
}

impl Gpu {
    /// Returns the preview that this device would have had before it was opened.
    #[must_use]
    pub fn preview(&self) -> DevicePreview {
        DevicePreview {
            adapter: Some(self.report().clone()),
            capabilities: self.capabilities(),
            max_binding_bytes: self.max_binding_bytes(),
            options: self.options().clone(),
        }
    }

    /// Uses the host program's device. Kernels work without the features that the device
    /// lacks.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] for an API that is not supported; [`Error::Limits`] with a
    /// list of the limits that are too low.
    pub fn from_host(context: GpuContext) -> Result<Gpu> {
        let GpuContext { adapter, device, queue, options, loss, .. } = context;
        let info = adapter.get_info();
        let backend = backend(&info)?;
        let missing = missing_limits(&device.limits(), &adapter.limits());
        if !missing.is_empty() {
            return Err(Error::Limits(format!(
                "the device of {} was opened with limits that are too low:\n  {}\nOpen it with the limits of \
                 wgpt::required(&adapter).",
                info.name,
                missing.join("\n  ")
            )));
        }
        let report = AdapterReport::new(&adapter, backend);
        Ok(Gpu::assemble(&adapter, (device, queue), report, &options, loss, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_low_limit_is_listed_with_the_adapters_value() {
        let floor = wgpu::Limits::default();
        assert!(missing_limits(&floor, &floor).is_empty());
        let low = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 4,
            min_uniform_buffer_offset_alignment: 512,
            // A small binding size is fine, because matrices are split.
            max_storage_buffer_binding_size: 1 << 20,
            ..floor.clone()
        };
        let lines = missing_limits(&low, &floor);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("has 4, needs 8, the adapter offers 8"), "{}", lines[0]);
        assert!(lines[1].contains("has 512, needs 256 or less"), "{}", lines[1]);
        let lines = missing_limits(&wgpu::Limits::downlevel_webgl2_defaults(), &floor);
        assert!(lines.len() > 4 && lines[0].contains("has 0, needs 8"), "{lines:?}");
    }
}
