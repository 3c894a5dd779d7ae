//! Submits passes and reads back their output and the f16 overflow flag.
//!
//! A pass begins by clearing the flag and ends by reading it. It thus finds only its own
//! overflow and fails only its caller's step.

use super::Forward;
use crate::error::{Error, Result};
use crate::gpu::{Encoder, Gpu, GpuBuffer};
use crate::kernels::{KvOverflow, OVERFLOW_FLAG_BYTES};
use crate::model::dims::Slot;
use crate::model::output::kv_overflow;

/// The zeros that clear the flag.
static ZEROS: [u8; OVERFLOW_FLAG_BYTES as usize] = [0; OVERFLOW_FLAG_BYTES as usize];

/// Converts the bytes of the flag to an error if they report overflow.
fn check(bytes: &[u8]) -> Result<()> {
    let found = KvOverflow::lowest(bytemuck::pod_read_unaligned(bytes));
    found.map_or(Ok(()), |found| Err(kv_overflow(found)))
}

/// Turns an overflow error into success: nobody requested the token of a warm-up.
pub(super) fn permitted(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Overflow { .. }) => Ok(()),
        result => result,
    }
}

/// Returns the upload that clears the flag, for a model's buffers.
pub(in crate::model) fn cleared(buffers: &[GpuBuffer]) -> (&'static [u8], &GpuBuffer, u64) {
    (&ZEROS, &buffers[Slot::Overflow as usize], 0)
}

impl Forward {
    fn flag(&self) -> &GpuBuffer {
        &self.buffers[Slot::Overflow as usize]
    }

    /// Submits a pass, or only its uploads.
    pub(super) fn submit(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        encoder.submit(gpu)?;
        self.ring.submitted(gpu)
    }

    /// Submits a pass without output; with overflow detection, waits for its flag.
    pub(super) fn finish(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        if self.notes_overflow {
            return self.read(gpu, encoder, Slot::Overflow, OVERFLOW_FLAG_BYTES as usize, |_| ());
        }
        self.submit(gpu, encoder)
    }

    /// Submits a pass with its uploads and passes the first `bytes` bytes of a slot to
    /// `read`.
    ///
    /// # Errors
    /// [`Error::Overflow`], and errors of the device.
    pub(super) fn read<T>(
        &mut self,
        gpu: &Gpu,
        encoder: Encoder,
        slot: Slot,
        bytes: usize,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        self.read_end(gpu, encoder, slot, bytes, true, read)
    }

    /// As [`Forward::read`], for the end of a pass whose uploads may be in an earlier
    /// submit.
    pub(super) fn read_end<T>(
        &mut self,
        gpu: &Gpu,
        mut encoder: Encoder,
        slot: Slot,
        bytes: usize,
        holds_uploads: bool,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        self.readback.copy_from(&mut encoder, &self.buffers[slot as usize], bytes as u64);
        let mut all = bytes as u64;
        if self.notes_overflow {
            self.readback.copy_behind(&mut encoder, self.flag(), OVERFLOW_FLAG_BYTES, all);
            all += OVERFLOW_FLAG_BYTES;
        }
        let ring = &mut self.ring;
        let (value, checked) = self.readback.submit_and_read(
            gpu,
            encoder,
            all,
            || if holds_uploads { ring.submitted(gpu) } else { Ok(()) },
            |all| {
                let (own, flag) = all.split_at(bytes);
                (read(own), if flag.is_empty() { Ok(()) } else { check(flag) })
            },
        )?;
        checked.map(|()| value)
    }

    /// Reads and checks the flag separately, for a pass that is already submitted.
    pub(super) fn check_flag(&self, gpu: &Gpu) -> Result<()> {
        if self.notes_overflow { check(&gpu.read_buffer(self.flag())?[..ZEROS.len()]) } else { Ok(()) }
    }
}
