//! Submits, and what comes back of them: what is asked for, and the flag of keys and
//! values that f16 cannot hold.
//!
//! A pass begins with an empty flag and ends with a look at it, so that what is found
//! is the pass's own, and its caller's step the one that fails.

use super::Forward;
use crate::error::{Error, Result};
use crate::gpu::{Encoder, Gpu, GpuBuffer};
use crate::kernels::{KvOverflow, OVERFLOW_FLAG_BYTES};
use crate::model::dims::Slot;
use crate::model::output::kv_overflow;

/// What empties the flag.
static ZEROS: [u8; OVERFLOW_FLAG_BYTES as usize] = [0; OVERFLOW_FLAG_BYTES as usize];

/// What the bytes of the flag say.
fn check(bytes: &[u8]) -> Result<()> {
    let found = KvOverflow::lowest(bytemuck::pod_read_unaligned(bytes));
    found.map_or(Ok(()), |found| Err(kv_overflow(found)))
}

/// A result of which overflow is no part: the warm-up's, whose token no one asked for.
pub(super) fn permitted(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Overflow { .. }) => Ok(()),
        result => result,
    }
}

/// The piece of an upload that empties the flag, among a model's buffers.
pub(in crate::model) fn cleared(buffers: &[GpuBuffer]) -> (&'static [u8], &GpuBuffer, u64) {
    (&ZEROS, &buffers[Slot::Overflow as usize], 0)
}

impl Forward {
    fn flag(&self) -> &GpuBuffer {
        &self.buffers[Slot::Overflow as usize]
    }

    /// Hands a pass, or its uploads alone, to the queue.
    pub(super) fn submit(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        encoder.submit(gpu)?;
        self.ring.submitted(gpu)
    }

    /// Submits a pass of which nothing is wanted.
    pub(super) fn finish(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        if self.notes_overflow {
            return self.read(gpu, encoder, Slot::Overflow, OVERFLOW_FLAG_BYTES as usize, |_| ());
        }
        self.submit(gpu, encoder)
    }

    /// Submits a pass with its uploads and hands the first `bytes` of a slot to `read`.
    ///
    /// # Errors
    /// [`Error::Overflow`], beside those of the device.
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

    /// As [`Forward::read`], for the end of a pass, of which an earlier submit may have
    /// had the uploads.
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

    /// Looks at the flag in a submit of its own: for a pass that is measured.
    pub(super) fn check_flag(&self, gpu: &Gpu) -> Result<()> {
        if self.notes_overflow { check(&gpu.read_buffer(self.flag())?[..ZEROS.len()]) } else { Ok(()) }
    }
}
