//! The GPU: adapter selection, device, buffers, pipelines, recorded work and transfers.
//!
//! This module handles devices, buffers and passes. It does not know the computation of
//! any kernel.

pub mod adapter;
mod buffer;
mod capabilities;
mod counters;
mod encoder;
mod faults;
mod host;
mod kernel;
mod pipeline_cache;
mod recording;
mod source;
mod support;
mod timed;
mod timestamps;
mod timings;
mod transfer;
mod unchecked;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub use adapter::{AdapterReport, Backend, DevicePreview, DeviceType, GpuOptions, adapters, no_adapter};
pub use buffer::{BufferUse, GpuBuffer, Ledger, rounded_bytes};
pub use capabilities::{Capabilities, CooperativeSizes};
pub use counters::CounterReading;
pub use encoder::{Encoder, Pass};
pub use faults::{Call, Fault, FaultInjector, LossSignal};
pub use host::{GpuContext, Required, required};
pub use kernel::{Binding, BindingKind, Fragment, Kernel, Pipeline, Strategy, Variant};
pub use recording::{BoundBuffer, Dispatch, Extent, Grid, Params, Recorder, Work};
pub use source::GpuSource;
pub use support::{FeatureSupport, LimitSupport, Support};
pub use timestamps::{PassTime, Timestamps};
pub use timings::StepTimings;
pub use transfer::{Readback, Submission, UploadRing};

pub use crate::memory::MemoryGroup;
use counters::Counters;
/// A buffer as a host program binds it.
pub use wgpu::Buffer as HostBuffer;

use crate::error::{Error, Result};

/// The version of wgpu that this library is built and tested with. A program that embeds
/// the library may resolve to a later patch release.
pub const WGPU_VERSION: &str = "30.0.1";

/// An open device with its pipelines, memory ledger and counters.
pub struct Gpu {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    report: AdapterReport,
    options: GpuOptions,
    strategy: Strategy,
    limits: wgpu::Limits,
    /// By label and by whether bounds are checked.
    pipelines: Mutex<HashMap<(String, bool), Arc<Pipeline>>>,
    pipeline_cache: Option<pipeline_cache::PipelineCache>,
    warnings: Mutex<Warnings>,
    faults: FaultInjector,
    ledger: Arc<Ledger>,
    counters: Counters,
    clock: timings::StepClock,
    /// The first error that wgpu reported outside an error scope. Set only on a device
    /// that this library opened.
    uncaptured: Arc<Mutex<Option<String>>>,
    loss: LossSignal,
    /// Whether this library opened the device and may therefore install handlers on it.
    owned: bool,
    /// Bytes uploaded since the last [`Gpu::flush`].
    unflushed_bytes: AtomicU64,
}

/// Faults that stopped no work.
#[derive(Default)]
struct Warnings {
    all: Vec<String>,
    /// Number of warnings that [`Gpu::take_warnings`] has returned.
    n_taken: usize,
}

/// [`Gpu::upload`] flushes the queue when this many bytes are in wgpu's staging buffers.
/// This bounds the staged copy of the weights during loading.
const UNFLUSHED_BYTES_MAX: u64 = 32 << 20;

impl Gpu {
    /// Opens the adapter that `options` names, or else the most preferred one.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if no adapter fits, [`Error::Gpu`] if the driver refuses
    /// the device.
    ///
    /// For a device that the application has already opened, use [`Gpu::from_host`].
    pub fn open(options: &GpuOptions) -> Result<Gpu> {
        let (adapter, report) = adapter::choose(options)?;
        let (features, limits) = adapter::request(&adapter, options);
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("wgpt"),
            required_features: features,
            required_limits: limits,
            experimental_features: unchecked::experimental(features),
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::Gpu { operation: "request device", message: e.to_string() })?;
        let loss = LossSignal::default();
        let signal = loss.clone();
        device.set_device_lost_callback(move |reason, message| signal.lost(format!("{reason:?}: {message}")));
        Ok(Gpu::assemble(&adapter, (device, queue), report, options, loss, true))
    }

    /// Wraps an open device, with an empty ledger, zeroed counters and no pipelines.
    fn assemble(
        adapter: &wgpu::Adapter,
        (device, queue): (wgpu::Device, wgpu::Queue),
        report: AdapterReport,
        options: &GpuOptions,
        loss: LossSignal,
        owned: bool,
    ) -> Gpu {
        let uncaptured = Arc::new(Mutex::new(None));
        if owned {
            // wgpu's default handler panics, but a fault must reach the caller as an
            // error.
            let sink = Arc::clone(&uncaptured);
            device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                let mut slot = sink.lock().unwrap_or_else(PoisonError::into_inner);
                slot.get_or_insert_with(|| error.to_string());
            }));
        }
        let limits = device.limits();
        let strategy = options.strategy.unwrap_or(adapter::default_strategy(&report, device.features()));
        let mut gpu = Gpu {
            device,
            queue,
            report,
            options: options.clone(),
            strategy,
            limits,
            pipelines: Mutex::default(),
            pipeline_cache: None,
            warnings: Mutex::default(),
            faults: FaultInjector::default(),
            ledger: Arc::default(),
            counters: Counters::default(),
            clock: timings::StepClock::default(),
            uncaptured,
            loss,
            owned,
            unflushed_bytes: AtomicU64::new(0),
        };
        if let Some(dir) = &options.cache_dir {
            gpu.pipeline_cache = pipeline_cache::PipelineCache::open(&gpu, &adapter.get_info(), dir);
        }
        gpu
    }

    /// Stores a warning for [`Gpu::warnings`].
    pub(crate) fn warn(&self, warning: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).all.push(warning);
    }

    /// Faults so far that stopped no work, one line each: cache files that were ignored
    /// or could not be written, and tuned kernels that failed their check.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    /// The warnings since the last call.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let new = warnings.all[warnings.n_taken..].to_vec();
        warnings.n_taken = warnings.all.len();
        new
    }

    /// Returns the device, so that a host program can create its own resources on it.
    #[must_use]
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// Returns the queue, which runs submits in order.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// Returns the description of the adapter.
    #[must_use]
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// Returns the options with which the device was opened.
    #[must_use]
    pub fn options(&self) -> &GpuOptions {
        &self.options
    }

    /// Returns the family of kernel variants that this device runs by default.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Returns the strategies whose kernels this device can run.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn strategies(&self) -> Vec<Strategy> {
        let mut all = vec![Strategy::PerThread, Strategy::Workgroup];
        if self.device.features().contains(wgpu::Features::SUBGROUP) {
            all.push(Strategy::Subgroup);
        }
        all
    }

    /// Returns the capabilities that decide which kernel variants run.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn capabilities(&self) -> Capabilities {
        let (min_subgroup_size, _) = self.report.subgroup_size;
        Capabilities::new(self.strategy, self.device.features(), self.report.cooperative, min_subgroup_size)
    }

    /// Returns the size in bytes of the largest storage binding. Larger tensors are
    /// split.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn max_binding_bytes(&self) -> u64 {
        adapter::max_binding_bytes(&self.limits, &self.options)
    }

    /// Returns the limits with which the device was opened.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// Returns the ledger of allocated bytes, by group.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns the running totals of the host's time and work.
    #[must_use]
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn step_timings(&self) -> StepTimings {
        self.clock.read()
    }

    /// Allocates a buffer of `bytes`, rounded up to a multiple of 16, in `group`.
    ///
    /// # Errors
    /// [`Error::Limits`] if the size exceeds the device's limits,
    /// [`Error::OutOfMemory`] if the driver has no memory for it;
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn allocate(
        &self,
        label: &str,
        bytes: u64,
        usage: BufferUse,
        group: MemoryGroup,
    ) -> Result<GpuBuffer> {
        let bytes = rounded_bytes(bytes);
        let limit = if usage.is_bound() { self.max_binding_bytes() } else { self.limits.max_buffer_size };
        if bytes > limit {
            return Err(Error::Limits(format!(
                "buffer {label} needs {bytes} bytes, more than the {limit} that {} permits",
                self.report.name
            )));
        }
        let create = || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes,
                usage: usage.flags(),
                mapped_at_creation: false,
            })
        };
        let raw = self.guarded(Call::Allocate, "allocate", create).map_err(|error| match error {
            Error::OutOfMemory { message, .. } => {
                Error::OutOfMemory { what: format!("buffer {label}"), bytes: Some(bytes), message }
            }
            other => other,
        })?;
        self.counters.buffers.fetch_add(1, Ordering::Relaxed);
        Ok(GpuBuffer::new(raw, bytes, group, Arc::clone(&self.ledger)))
    }

    /// Allocates a bindable buffer and fills it with `data`.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn allocate_with(&self, label: &str, data: &[u8], group: MemoryGroup) -> Result<GpuBuffer> {
        let buffer = self.allocate(label, data.len() as u64, BufferUse::Storage, group)?;
        self.upload(&buffer, 0, data)?;
        Ok(buffer)
    }

    /// Writes `data` to `buffer` at `offset`. The length and the offset must be multiples
    /// of 4 bytes. Use this for loading; the decode loop uses an [`UploadRing`].
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver reports a fault.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn upload(&self, buffer: &GpuBuffer, offset: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.guarded(Call::Upload, "upload", || self.queue.write_buffer(&buffer.raw, offset, data))?;
        self.counters.queue_writes.fetch_add(1, Ordering::Relaxed);
        let pending =
            self.unflushed_bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
        if pending >= UNFLUSHED_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Waits until the GPU has finished all work in the queue.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver reports a fault.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn flush(&self) -> Result<()> {
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        let index = self.guarded(Call::Submit, "submit", || self.queue.submit([]))?;
        self.wait(index)
    }

    /// Returns the pipeline of `variant`, with or without bounds checks, which
    /// [`Recorder`] decides. It is compiled at its first use.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver refuses the shader.
    fn pipeline(&self, variant: &Variant, checked: bool) -> Result<Arc<Pipeline>> {
        let key = (variant.label(), checked);
        let mut pipelines = self.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(&key) {
            return Ok(Arc::clone(pipeline));
        }
        let cache = self.pipeline_cache.as_ref().map(|cache| &cache.raw);
        let compile = || Pipeline::compile(&self.device, variant, checked, cache);
        let pipeline = self.guarded(Call::Compile, "compile", compile)?;
        self.counters.pipelines.fetch_add(1, Ordering::Relaxed);
        let pipeline = Arc::new(pipeline);
        pipelines.insert(key, Arc::clone(&pipeline));
        Ok(pipeline)
    }

    pub(crate) fn create_bind_group(
        &self,
        layout: &wgpu::BindGroupLayout,
        entries: &[wgpu::BindGroupEntry<'_>],
        label: &str,
    ) -> Result<wgpu::BindGroup> {
        self.counters.bind_groups.fetch_add(1, Ordering::Relaxed);
        self.guarded(Call::Bind, "bind", || {
            self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(label), layout, entries })
        })
    }

    fn create_query_set(&self, label: &str, ty: wgpu::QueryType, count: u32) -> Result<wgpu::QuerySet> {
        self.guarded(Call::Allocate, "create query set", || {
            self.device.create_query_set(&wgpu::QuerySetDescriptor { label: Some(label), ty, count })
        })
    }

    /// Waits for a submission. Returns any fault reported until then as an error.
    pub(crate) fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        let start = std::time::Instant::now();
        let poll = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
        let waited = self.guarded(Call::Wait, "wait", || self.device.poll(poll));
        timings::add_since(&self.clock.wait, start);
        // Report a fault first, because it is the cause, and a failed wait is its
        // consequence.
        self.take_fault("submit")?;
        waited?.map(|_| ()).map_err(|error| {
            // The index came from a submit. The wait fails only if a lost device accepted
            // that submit without an error.
            self.loss.lost(error.to_string());
            Error::DeviceLost { message: error.to_string() }
        })
    }

    /// Runs the callbacks that are due, without waiting.
    fn poll_once(&self) -> Result<()> {
        self.guarded(Call::Wait, "poll", || self.device.poll(wgpu::PollType::Poll))?
            .map(|_| ())
            .map_err(|e| Error::Gpu { operation: "poll", message: e.to_string() })
    }

    /// Takes the fault that the device reported outside an error scope, if any, and
    /// returns it as an error.
    fn take_fault(&self, operation: &'static str) -> Result<()> {
        match self.uncaptured.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(message) => Err(Error::Gpu { operation, message }),
            None => Ok(()),
        }
    }
}
