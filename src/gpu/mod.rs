//! The GPU: adapter choice, device, buffers, pipelines, recorded work, transfers.
//!
//! This room knows devices, buffers and passes; it does not know what an
//! operation means.

pub mod adapter;
mod buffer;
pub(crate) mod cache_file;
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

use crate::error::{Error, Result};

/// The version of wgpu that this library is built and tested with; a program
/// that embeds it may have resolved a later patch release.
pub const WGPU_VERSION: &str = "30.0.1";

/// An open device with its pipelines and its accounts.
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
    warnings: Mutex<Vec<String>>,
    ledger: Arc<Ledger>,
    counters: Counters,
    clock: timings::StepClock,
    /// What wgpu reported outside the scopes of a call, on a device of our own.
    uncaptured: Arc<Mutex<Option<String>>>,
    loss: LossSignal,
    /// Whether this library opened the device, and may put handlers on it.
    owned: bool,
    /// Bytes handed to the queue since it was last waited for.
    unflushed_bytes: AtomicU64,
}

/// The queue is waited for whenever this much lies in wgpu's staging buffers,
/// so that loading holds a bounded copy of the weights.
const UNFLUSHED_BYTES_MAX: u64 = 32 << 20;

impl Gpu {
    /// Opens the adapter that `options` names, or the best one there is.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] when no adapter fits, [`Error::Gpu`] when the
    /// driver refuses the device.
    ///
    /// An application with a device of its own hands it over: [`Gpu::from_host`].
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

    /// A device with empty accounts.
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
            // The default handler panics; a fault must reach the caller as an error.
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

    /// Keeps a warning for whoever asks.
    pub(crate) fn warn(&self, warning: String) {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
    }

    /// What went wrong since the last call without stopping any work: files of the
    /// cache that were ignored or could not be written. A line each.
    #[must_use]
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The device, for resources of a host's own.
    #[must_use]
    pub fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The queue, which keeps the order of submits.
    #[must_use]
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// What is known of the adapter.
    #[must_use]
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// How the device was opened.
    #[must_use]
    pub fn options(&self) -> &GpuOptions {
        &self.options
    }

    /// Which family of kernel variants this device runs by default.
    #[must_use]
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The strategies whose kernels this device can run.
    #[must_use]
    pub fn strategies(&self) -> Vec<Strategy> {
        let mut all = vec![Strategy::PerThread, Strategy::Workgroup];
        if self.device.features().contains(wgpu::Features::SUBGROUP) {
            all.push(Strategy::Subgroup);
        }
        all
    }

    /// What decides which kernel variants run.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        let (min_subgroup_size, _) = self.report.subgroup_size;
        Capabilities::new(self.strategy, self.device.features(), self.report.cooperative, min_subgroup_size)
    }

    /// The largest storage binding in bytes: larger tensors are split.
    #[must_use]
    pub fn max_binding_bytes(&self) -> u64 {
        adapter::max_binding_bytes(&self.limits, &self.options)
    }

    /// The limits that the device was opened with.
    #[must_use]
    pub fn limits(&self) -> &wgpu::Limits {
        &self.limits
    }

    /// Bytes allocated at present, by group.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Reads the sums of the host's time and work.
    #[must_use]
    pub fn step_timings(&self) -> StepTimings {
        self.clock.read()
    }

    /// Allocates a buffer of `bytes` (rounded up to 16) in `group`.
    ///
    /// # Errors
    /// [`Error::Limits`] when it exceeds the device's limits, [`Error::OutOfMemory`]
    /// when the driver has no memory for it; [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn allocate(
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

    /// Allocates a bindable buffer that holds `data`.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn allocate_with(&self, label: &str, data: &[u8], group: MemoryGroup) -> Result<GpuBuffer> {
        let buffer = self.allocate(label, data.len() as u64, BufferUse::Storage, group)?;
        self.upload(&buffer, 0, data)?;
        Ok(buffer)
    }

    /// Writes `data` at `offset`; both are multiples of 4 bytes. For loading:
    /// the decode loop uses an [`UploadRing`].
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver reports a fault.
    pub fn upload(&self, buffer: &GpuBuffer, offset: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.guarded(Call::Upload, "upload", || self.queue.write_buffer(&buffer.raw, offset, data))?;
        self.counters.queue_writes.fetch_add(1, Ordering::Relaxed);
        let pending =
            self.unflushed_bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
        if pending >= UNFLUSHED_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Waits until everything that was handed to the queue is done.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver reports a fault.
    pub fn flush(&self) -> Result<()> {
        self.unflushed_bytes.store(0, Ordering::Relaxed);
        let index = self.guarded(Call::Submit, "submit", || self.queue.submit([]))?;
        self.wait(index)
    }

    /// Returns the pipeline of `variant`, compiled at its first use, with or without
    /// bounds checks: [`Recorder`] decides which.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver refuses the shader.
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

    /// Waits for a submission and reports what went wrong up to then.
    pub(crate) fn wait(&self, index: wgpu::SubmissionIndex) -> Result<()> {
        let start = std::time::Instant::now();
        let poll = wgpu::PollType::Wait { submission_index: Some(index), timeout: None };
        let waited = self.guarded(Call::Wait, "wait", || self.device.poll(poll));
        timings::add_since(&self.clock.wait, start);
        // A fault is the cause, a failed wait its consequence.
        self.take_fault("submit")?;
        waited?.map(|_| ()).map_err(|error| {
            // The index came from a submit: one that a lost device took in silence.
            self.loss.lost(error.to_string());
            Error::DeviceLost { message: error.to_string() }
        })
    }

    /// Runs callbacks that are due, without waiting.
    fn poll_once(&self) -> Result<()> {
        self.guarded(Call::Wait, "poll", || self.device.poll(wgpu::PollType::Poll))?
            .map(|_| ())
            .map_err(|e| Error::Gpu { operation: "poll", message: e.to_string() })
    }

    /// The fault that the device reported outside an error scope, if any.
    fn take_fault(&self, operation: &'static str) -> Result<()> {
        match self.uncaptured.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(message) => Err(Error::Gpu { operation, message }),
            None => Ok(()),
        }
    }
}
