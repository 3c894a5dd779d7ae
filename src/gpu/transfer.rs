//! Small uploads and readbacks of the running loop, without `write_buffer`
//! and without a new buffer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::timings::add_since;
use super::{BufferUse, Call, Encoder, Gpu, GpuBuffer, MemoryGroup};
use crate::error::{Error, Result};

/// The host has it not, and has not asked for it.
const UNMAPPED: u8 = 0;
const PENDING: u8 = 1;
const MAPPED: u8 = 2;
const FAILED: u8 = 3;

/// State of an asynchronous map, set by wgpu's callback.
#[derive(Debug)]
struct MapState(Arc<AtomicU8>);

impl MapState {
    fn new() -> Self {
        MapState(Arc::new(AtomicU8::new(UNMAPPED)))
    }

    fn get(&self) -> u8 {
        self.0.load(Ordering::Acquire)
    }

    /// Asks for the first `bytes` of a buffer. Each request has a flag of its own: one
    /// that was given up may still be answered.
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

    /// Gives the buffer back to the GPU, or gives up asking for it.
    fn release(&mut self, buffer: &GpuBuffer) {
        if matches!(self.get(), PENDING | MAPPED) {
            buffer.raw.unmap();
        }
        self.0 = Arc::new(AtomicU8::new(UNMAPPED));
    }

    /// Waits for the callback. The submit before it is done by now, but another
    /// thread may be the one whose poll has the callback in hand.
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
                // wgpu names no cause here: what was wrong with the request was an error
                // of the request, so that the device remains.
                UNMAPPED | FAILED => {
                    gpu.loss_signal().lost("a buffer could not be mapped");
                    return gpu.check_loss();
                }
                _ if started.elapsed() > CALLBACK_PATIENCE => {
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

/// Callbacks run within microseconds of the work's end; this is for a fault of
/// the driver.
const CALLBACK_PATIENCE: Duration = Duration::from_secs(10);

/// Buffers that the host writes in turn; one is always mapped while the GPU
/// reads from the other.
#[derive(Debug)]
pub struct UploadRing {
    slots: [(GpuBuffer, MapState); 2],
    next: usize,
}

impl UploadRing {
    /// Two buffers of `bytes` each.
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

    /// Writes `pieces` one after the other and encodes their copies.
    ///
    /// Each piece is data (a multiple of 4 bytes) with the buffer and offset
    /// where it goes.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the mapping failed.
    pub fn stage(
        &mut self,
        gpu: &Gpu,
        encoder: &mut Encoder,
        pieces: &[(&[u8], &GpuBuffer, u64)],
    ) -> Result<()> {
        self.stage_with(gpu, encoder, pieces, &[]).map(|_| ())
    }

    /// As [`UploadRing::stage`], with data behind the pieces that no copy is encoded
    /// for yet: [`UploadRing::copy_staged`] does, from the offset returned.
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
            // What was staged last was never submitted, or the request failed.
            state.request(gpu, buffer, buffer.bytes(), wgpu::MapMode::Write)?;
        }
        if state.get() == PENDING {
            // Two submits are in flight: the older one must end first.
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

    /// Encodes the copy of `bytes` at `offset` of what was staged last, before its
    /// submit.
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

    /// To be called after the submit that holds the copies: asks for the slot
    /// again and turns to the other.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Gpu`]; the slot is asked for again when it is
    /// next wanted.
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
    /// Room for `bytes`.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub fn new(gpu: &Gpu, bytes: u64) -> Result<Self> {
        let buffer = gpu.allocate("readback", bytes, BufferUse::Readback, MemoryGroup::Transfer)?;
        Ok(Readback { buffer, state: MapState::new() })
    }

    /// Room in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.buffer.bytes()
    }

    /// Encodes the copy of `bytes` (a multiple of 4) from the start of `source`.
    pub fn copy_from(&self, encoder: &mut Encoder, source: &GpuBuffer, bytes: u64) {
        encoder.copy(source, 0, &self.buffer, 0, bytes);
    }

    /// As [`Readback::copy_from`], to `offset` (a multiple of 4) of the readback.
    pub fn copy_behind(&self, encoder: &mut Encoder, source: &GpuBuffer, bytes: u64, offset: u64) {
        encoder.copy(source, 0, &self.buffer, offset, bytes);
    }

    /// Submits `encoder`'s work, waits for it and hands the first `bytes` to `read`.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver reports a fault.
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

    /// Submits `encoder`'s work and asks for the first `bytes`, which
    /// [`Readback::read`] must wait for before the next submit.
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

    /// Waits for a submission and hands the first `bytes` to `read`.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver reports a fault.
    pub fn read<T>(
        &mut self,
        gpu: &Gpu,
        submission: Submission,
        bytes: u64,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let value = self.read_mapped(gpu, submission, bytes, read);
        // On every way out: a buffer left mapped, or about to be, could never be copied
        // into again.
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

/// Work on its way whose results were asked for.
#[derive(Debug)]
pub struct Submission(wgpu::SubmissionIndex);

impl Gpu {
    /// Reads a whole buffer: for tests, benchmarks and tools.
    ///
    /// # Errors
    /// [`Error::Gpu`] when the driver reports a fault.
    pub fn read_buffer(&self, buffer: &GpuBuffer) -> Result<Vec<u8>> {
        let mut readback = Readback::new(self, buffer.bytes())?;
        let mut encoder = self.encoder()?;
        readback.copy_from(&mut encoder, buffer, buffer.bytes());
        readback.submit_and_read(self, encoder, buffer.bytes(), || Ok(()), <[u8]>::to_vec)
    }
}
