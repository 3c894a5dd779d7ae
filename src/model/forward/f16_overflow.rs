//! The flag that append kernels set if a key or value overflows f16.
//!
//! A pass begins by clearing the flag and ends by reading it. It therefore finds only its
//! own overflow, and only its caller's step fails.

use super::Forward;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer};
use crate::kernels::{KvOverflow, OVERFLOW_FLAG_BYTES};
use crate::model::dims::Slot;
use crate::model::output::kv_overflow;

/// The zeros that clear the flag.
static ZEROS: [u8; OVERFLOW_FLAG_BYTES as usize] = [0; OVERFLOW_FLAG_BYTES as usize];

/// Converts the bytes of the flag to an error if they report overflow.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let found = KvOverflow::lowest(bytemuck::pod_read_unaligned(bytes));
    found.map_or(Ok(()), |found| Err(kv_overflow(found)))
}

/// Ignores an overflow error, because the token of a warm-up is not used.
pub(super) fn ignore_overflow(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::Overflow { .. }) => Ok(()),
        result => result,
    }
}

/// Returns the upload that clears the flag, for a model's buffers.
pub(in crate::model) fn cleared(buffers: &[GpuBuffer]) -> (&'static [u8], &GpuBuffer, u64) {
    (&ZEROS, &buffers[Slot::F16Overflow as usize], 0)
}

impl Forward {
    pub(super) fn f16_overflow_flag(&self) -> &GpuBuffer {
        &self.buffers[Slot::F16Overflow as usize]
    }

    /// Reads and checks the flag separately, for a pass that is already submitted.
    pub(in crate::model) fn check_f16_overflow(&self, gpu: &Gpu) -> Result<()> {
        if self.detects_f16_overflow {
            check(&gpu.read_buffer(self.f16_overflow_flag())?[..ZEROS.len()])
        } else {
            Ok(())
        }
    }
}
