//! Commands that are encoded and submitted to the queue.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::timings::{add_since, nanoseconds};
use super::{Call, Dispatch, Gpu, GpuBuffer, Work};
use crate::error::Result;

/// A command buffer that is being encoded.
pub struct Encoder {
    raw: wgpu::CommandEncoder,
    started: Instant,
    /// The device's total waiting time, in nanoseconds, when this encoder was created.
    waited_before: u64,
    dispatches: u64,
}

/// An open compute pass.
pub struct Pass<'e> {
    raw: wgpu::ComputePass<'e>,
    dispatches: &'e mut u64,
}

impl Pass<'_> {
    /// Encodes the dispatches for a step. wgpt's own code allocates nothing here.
    pub fn run(&mut self, dispatches: &[Dispatch], work: Work) {
        for dispatch in dispatches {
            *self.dispatches += u64::from(dispatch.encode(&mut self.raw, work));
        }
    }
}

impl Encoder {
    /// Encodes one compute pass. Each dispatch in it sees the output of earlier ones.
    pub fn pass(&mut self, encode: impl FnOnce(&mut Pass<'_>)) {
        self.pass_with(None, encode);
    }

    pub(super) fn pass_with(
        &mut self,
        timestamp_writes: Option<wgpu::ComputePassTimestampWrites<'_>>,
        encode: impl FnOnce(&mut Pass<'_>),
    ) {
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
        let raw = self.raw.begin_compute_pass(&descriptor);
        encode(&mut Pass { raw, dispatches: &mut self.dispatches });
    }

    /// Encodes a copy of the first `count` entries of `set`, each as a u64, to `to` at
    /// `offset`, which must be a multiple of 256 bytes.
    pub(super) fn resolve(&mut self, set: &wgpu::QuerySet, count: u32, to: &GpuBuffer, offset: u64) {
        self.raw.resolve_query_set(set, 0..count, &to.raw, offset);
    }

    /// Encodes a copy of `bytes` (a multiple of 4) between two buffers.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn copy(
        &mut self,
        from: &GpuBuffer,
        from_offset: u64,
        to: &GpuBuffer,
        to_offset: u64,
        bytes: u64,
    ) {
        self.raw.copy_buffer_to_buffer(&from.raw, from_offset, &to.raw, to_offset, bytes);
    }

    /// Submits the commands. wgpu stores the error of an invalid command until the
    /// encoder is finished, so it is reported only here.
    pub(super) fn submit_raw(self, gpu: &Gpu) -> Result<wgpu::SubmissionIndex> {
        let raw = self.raw;
        let commands = gpu.guarded(Call::Submit, "encode", || raw.finish())?;
        let waited = gpu.clock.wait.load(Ordering::Relaxed) - self.waited_before;
        let encoded = nanoseconds(self.started).saturating_sub(waited);
        gpu.clock.encode.fetch_add(encoded, Ordering::Relaxed);
        gpu.clock.dispatches.fetch_add(self.dispatches, Ordering::Relaxed);
        gpu.clock.submits.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let index = gpu.guarded(Call::Submit, "submit", || gpu.queue.submit([commands]))?;
        add_since(&gpu.clock.submit, start);
        Ok(index)
    }

    /// Passes the encoder with its commands to `run` and continues with an empty one.
    ///
    /// # Errors
    /// As [`Gpu::encoder`]; also the errors of `run`.
    pub(crate) fn replace<T>(&mut self, gpu: &Gpu, run: impl FnOnce(Self) -> Result<T>) -> Result<T> {
        let full = std::mem::replace(self, gpu.encoder()?);
        let result = run(full)?;
        // The time that `run` took is not encoding time of this encoder.
        self.started = Instant::now();
        self.waited_before = gpu.clock.wait.load(Ordering::Relaxed);
        Ok(result)
    }

    /// Submits the commands without waiting.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Gpu`].
    pub fn submit(self, gpu: &Gpu) -> Result<()> {
        self.submit_raw(gpu).map(|_| ())
    }
}

impl Gpu {
    /// Creates an empty command buffer.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::OutOfMemory`], [`crate::Error::Gpu`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn encoder(&self) -> Result<Encoder> {
        let create = || self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Ok(Encoder {
            started: Instant::now(),
            waited_before: self.clock.wait.load(Ordering::Relaxed),
            dispatches: 0,
            raw: self.guarded(Call::Submit, "encode", create)?,
        })
    }

    /// Runs dispatches in one pass and waits, for tests, benchmarks and tools.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn run(&self, dispatches: &[Dispatch], work: Work) -> Result<()> {
        let mut encoder = self.encoder()?;
        encoder.pass(|pass| pass.run(dispatches, work));
        self.finish(encoder)
    }

    /// Submits the encoded commands and waits, for tests, benchmarks and tools.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn finish(&self, encoder: Encoder) -> Result<()> {
        let index = encoder.submit_raw(self)?;
        self.wait(index)
    }

    /// Submits copies (from, offset, to, offset, bytes) in order, without waiting.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] if the driver reports a fault.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn copy(&self, copies: &[(&GpuBuffer, u64, &GpuBuffer, u64, u64)]) -> Result<()> {
        let mut encoder = self.encoder()?;
        for &(from, from_offset, to, to_offset, bytes) in copies {
            encoder.copy(from, from_offset, to, to_offset, bytes);
        }
        encoder.submit(self)
    }
}
