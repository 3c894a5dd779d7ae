//! Small uploads and readbacks of the decode loop. They use neither `write_buffer` nor
//! new buffers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::timings::add_since;
use super::{BufferUse, Call, Encoder, Gpu, GpuBuffer, MemoryGroup};
use crate::error::{Error, Result};

/// The buffer is not mapped, and no mapping was requested.
const UNMAPPED: u8 = 0;
const PENDING: u8 = 1;
const MAPPED: u8 = 2;
const FAILED: u8 = 3;

/// State of an asynchronous map. wgpu's callback sets it.
#[derive(Debug)]
struct MapState(Arc<AtomicU8>);

impl MapState {
    fn new() -> Self {
        MapState(Arc::new(AtomicU8::new(UNMAPPED)))
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    /// Requests a mapping of the first `bytes` of a buffer. Each request gets its own
    /// flag, because wgpu may still answer an abandoned request.
    fn request(&mut self, gpu: &Gpu, buffer: &GpuBuffer, bytes: u64, mode: wgpu::MapMode) -> Result<()> {
        let flag = Arc::new(AtomicU8::new(PENDING));
        self.0 = Arc::clone(&flag);
        let asked = gpu.guarded(Call::Map, "map", || {
            buffer.raw.map_async(mode, 0..bytes, move |result| {
                flag.store(if result.is_ok() { MAPPED } else { FAILED }, Ordering::Release);
            });
        });
        if asked.is_err() {
            self.0 = Arc::new(AtomicU8::new(UNMAPPED));
        }
        asked
    }

    /// Unmaps the buffer, or abandons the pending request.
    fn release(&mut self, buffer: &GpuBuffer) {
        if matches!(self.get(), PENDING | MAPPED) {
            buffer.raw.unmap();
        }
        self.0 = Arc::new(AtomicU8::new(UNMAPPED));
    }

    /// Waits for the callback. The preceding submit is done by now, but the callback may
    /// run in a poll on another thread.
    fn wait(&self, gpu: &Gpu, operation: &'static str) -> Result<()> {
        let started = Instant::now();
        let result = self.wait_since(started, gpu, operation);
        add_since(&gpu.clock.wait, started);
        result
    }

    fn wait_since(&self, started: Instant, gpu: &Gpu, operation: &'static str) -> Result<()> {
        loop {
            match self.get() {
                MAPPED => return Ok(()),
                // wgpu gives no cause here. A faulty request would already have failed in
                // `request`, so the device must be lost.
                UNMAPPED | FAILED => {
                    gpu.loss_signal().lost("a buffer could not be mapped");
                    return gpu.check_loss();
                }
                _ if started.elapsed() > CALLBACK_TIMEOUT => {
                    return Err(Error::Gpu { operation, message: "the buffer was never mapped".into() });
                }
                _ => {
                    gpu.poll_once()?;
                    std::thread::yield_now();
                }
            }
        }
    }
}

/// The maximum wait for a callback. Callbacks run within microseconds after the work
/// ends, so a longer wait means that the driver is at fault.
const CALLBACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Two buffers that the host writes in turn. It maps one while the GPU reads the other.
#[derive(Debug)]
pub struct UploadRing {
    slots: [(GpuBuffer, MapState); 2],
    next: usize,
}

impl UploadRing {
    /// Allocates two buffers of `bytes` each.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        let slot = || -> Result<_> {
            let buffer = gpu.allocate("upload ring", bytes, BufferUse::Upload, MemoryGroup::Transfer)?;
            let mut state = MapState::new();
            state.request(gpu, &buffer, buffer.bytes(), wgpu::MapMode::Write)?;
            Ok((buffer, state))
        };
        let ring = UploadRing { slots: [slot()?, slot()?], next: 0 };
        gpu.flush()?;
        Ok(ring)
    }

    /// Writes `pieces` one after another and encodes their copies.
    ///
    /// Each piece consists of its data (a multiple of 4 bytes), the target buffer and the
    /// offset in it.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the mapping failed.
    pub fn stage(
        &mut self,
        gpu: &Gpu,
        encoder: &mut Encoder,
        pieces: &[(&[u8], &GpuBuffer, u64)],
    ) -> Result<()> {
        self.stage_with(gpu, encoder, pieces, &[]).map(|_| ())
    }

    /// As [`UploadRing::stage`], and also writes `later` after the pieces without
    /// encoding a copy of it. Returns the offset of `later`, for
    /// [`UploadRing::copy_staged`].
    ///
    /// # Errors
    /// As [`UploadRing::stage`].
    pub fn stage_with(
        &mut self,
        gpu: &Gpu,
        encoder: &mut Encoder,
        pieces: &[(&[u8], &GpuBuffer, u64)],
        later: &[u8],
    ) -> Result<u64> {
        let (buffer, state) = &mut self.slots[self.next];
        if matches!(state.get(), UNMAPPED | FAILED) {
            // The slot's last data were never submitted, or its request failed.
            state.request(gpu, buffer, buffer.bytes(), wgpu::MapMode::Write)?;
        }
        if state.get() == PENDING {
            // Two submits are in flight; the older one must finish first.
            gpu.flush()?;
        }
        state.wait(gpu, "upload")?;
        let mut offset = 0;
        {
            let mut view = buffer
                .raw
                .get_mapped_range_mut(..)
                .map_err(|e| Error::Gpu { operation: "upload", message: e.to_string() })?;
            for (data, _, _) in pieces {
                view.slice(offset..offset + data.len()).copy_from_slice(data);
                offset += data.len();
            }
            view.slice(offset..offset + later.len()).copy_from_slice(later);
        }
        state.release(buffer);
        let mut offset = 0;
        for (data, target, target_offset) in pieces.iter().filter(|(data, ..)| !data.is_empty()) {
            let bytes = data.len() as u64;
            encoder.copy(buffer, offset, target, *target_offset, bytes);
            offset += bytes;
        }
        Ok(offset)
    }

    /// Encodes a copy of `bytes` bytes from `offset` in the last staged data. Call this
    /// before that data is submitted.
    pub fn copy_staged(
        &self,
        encoder: &mut Encoder,
        offset: u64,
        target: &GpuBuffer,
        target_offset: u64,
        bytes: u64,
    ) {
        encoder.copy(&self.slots[self.next].0, offset, target, target_offset, bytes);
    }

    /// Requests the slot's mapping again and switches to the other slot. Call this after
    /// the submit that contains the copies.
    ///
    /// [`Error::DeviceLost`], [`Error::Gpu`]. The next use of the slot then repeats the
    /// request.
    pub fn submitted(&mut self, gpu: &Gpu) -> Result<()> {
        let (buffer, state) = &mut self.slots[self.next];
        self.next = 1 - self.next;
        state.request(gpu, buffer, buffer.bytes(), wgpu::MapMode::Write)
    }
}

/// A buffer that the host reads after a submit.
#[derive(Debug)]
pub struct Readback {
    buffer: GpuBuffer,
    state: MapState,
}

impl Readback {
    /// Allocates a readback buffer of `bytes`.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        let buffer = gpu.allocate("readback", bytes, BufferUse::Readback, MemoryGroup::Transfer)?;
        Ok(Readback { buffer, state: MapState::new() })
    }

    /// Returns the capacity in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.buffer.bytes()
    }

    /// Encodes a copy of `bytes` (a multiple of 4) from the start of `source`.
    pub fn copy_from(&self, encoder: &mut Encoder, source: &GpuBuffer, bytes: u64) {
        encoder.copy(source, 0, &self.buffer, 0, bytes);
    }

    /// Encodes a copy of `bytes` from `offset` in `source` to `at` in the readback
    /// buffer. All three are multiples of 4.
    pub fn copy_range(&self, encoder: &mut Encoder, source: &GpuBuffer, offset: u64, at: u64, bytes: u64) {
        encoder.copy(source, offset, &self.buffer, at, bytes);
    }

    /// As [`Readback::copy_from`], to `offset` (a multiple of 4) in the readback buffer.
    pub fn copy_after(&self, encoder: &mut Encoder, source: &GpuBuffer, bytes: u64, offset: u64) {
        encoder.copy(source, 0, &self.buffer, offset, bytes);
    }

    /// Submits `encoder`, waits for it and passes the first `bytes` to `read`.
    /// `after_submit` runs right after the submit.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver reports a fault.
    pub fn submit_and_read<T>(
        &mut self,
        gpu: &Gpu,
        encoder: Encoder,
        bytes: u64,
        after_submit: impl FnOnce() -> Result<()>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let submission = self.submit(gpu, encoder, bytes, after_submit)?;
        self.read(gpu, submission, bytes, read)
    }

    /// Submits `encoder`, requests the mapping of the first `bytes` and runs
    /// `after_submit`. Call [`Readback::read`] before the next submit.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`].
    pub fn submit(
        &mut self,
        gpu: &Gpu,
        encoder: Encoder,
        bytes: u64,
        after_submit: impl FnOnce() -> Result<()>,
    ) -> Result<Submission> {
        let index = encoder.submit_raw(gpu)?;
        let start = Instant::now();
        let asked = self.state.request(gpu, &self.buffer, bytes, wgpu::MapMode::Read);
        if let Err(error) = after_submit().and(asked) {
            self.state.release(&self.buffer);
            return Err(error);
        }
        add_since(&gpu.clock.read, start);
        Ok(Submission(index))
    }

    /// Waits for a submission and passes the first `bytes` to `read`.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver reports a fault.
    pub fn read<T>(
        &mut self,
        gpu: &Gpu,
        submission: Submission,
        bytes: u64,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let value = self.read_mapped(gpu, submission, bytes, read);
        // Release on every path: a buffer that is still mapped, or about to be, can never
        // be copied into again.
        self.state.release(&self.buffer);
        value
    }

    fn read_mapped<T>(
        &self,
        gpu: &Gpu,
        submission: Submission,
        bytes: u64,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        gpu.wait(submission.0)?;
        self.state.wait(gpu, "read back")?;
        let start = Instant::now();
        let view = self
            .buffer
            .raw
            .get_mapped_range(0..bytes)
            .map_err(|e| Error::Gpu { operation: "read back", message: e.to_string() })?;
        let value = read(&view);
        add_since(&gpu.clock.read, start);
        Ok(value)
    }
}

/// A submission in flight whose results will be read.
#[derive(Debug)]
pub struct Submission(wgpu::SubmissionIndex);

impl Gpu {
    /// Reads a whole buffer, for tests, benchmarks and tools.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the driver reports a fault.
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn read_buffer(&self, buffer: &GpuBuffer) -> Result<Vec<u8>> {
        let mut readback = Readback::new(self, buffer.bytes())?;
        let mut encoder = self.encoder()?;
        readback.copy_from(&mut encoder, buffer, buffer.bytes());
        readback.submit_and_read(self, encoder, buffer.bytes(), || Ok(()), <[u8]>::to_vec)
    }
}
