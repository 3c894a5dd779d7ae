//! Submits a pass and reads back its result and the f16 overflow flag.

use super::{Forward, f16_overflow};
use crate::error::Result;
use crate::gpu::{Encoder, Gpu};
use crate::kernels::{OVERFLOW_FLAG_BYTES, argmax};
use crate::model::dims::Slot;
use crate::model::output::{Output, bad_logits};

impl Forward {
    pub(super) fn check_rows(&self, n: usize, output: &Output<'_>) {
        let most = match output {
            Output::Rows(_) | Output::OnGpu { every_row: true } => self.dims.logits_rows,
            Output::ArgmaxRows(_) => self.dims.batch,
            _ => n,
        };
        assert!(n <= most, "too many rows for the output");
    }

    /// Submits a pass, and reads its requested output and the overflow flag.
    pub(super) fn read_output(
        &mut self,
        gpu: &Gpu,
        encoder: Encoder,
        n_rows: usize,
        output: Output<'_>,
    ) -> Result<()> {
        let vocab_size = self.vocab_size;
        match output {
            Output::None | Output::OnGpu { .. } => self.finish(gpu, encoder),
            Output::LastLogits(logits) => {
                logits.clear();
                self.read(gpu, encoder, Slot::Logits, vocab_size * 4, |bytes| {
                    logits.extend_from_slice(bytemuck::cast_slice(bytes));
                })
            }
            Output::Rows(logits) => {
                let stride = self.dims.slot_bytes(Slot::Logits) as usize / self.dims.logits_rows;
                self.read(gpu, encoder, Slot::Logits, n_rows * stride, |bytes| {
                    for row in bytes.chunks(stride) {
                        logits.extend_from_slice(bytemuck::cast_slice(&row[..vocab_size * 4]));
                    }
                })
            }
            Output::Argmax(token) => {
                let [id, bad] = self.read(gpu, encoder, Slot::Argmax, 8, |bytes| {
                    let words: &[u32] = bytemuck::cast_slice(bytes);
                    [words[0], words[1]]
                })?;
                *token = id;
                if bad == 0 { Ok(()) } else { Err(bad_logits()) }
            }
            Output::ArgmaxRows(tokens) => {
                let bytes = n_rows * argmax::RESULT_BYTES as usize;
                let bad = self.read(gpu, encoder, Slot::Argmax, bytes, |bytes| {
                    let rows: &[[u32; 4]] = bytemuck::cast_slice(bytes);
                    tokens.extend(rows.iter().map(|row| row[0]));
                    rows.iter().any(|row| row[1] != 0)
                })?;
                if bad { Err(bad_logits()) } else { Ok(()) }
            }
        }
    }

    /// Submits a pass, or only its uploads.
    pub(in crate::model) fn submit(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        encoder.submit(gpu)?;
        self.ring.submitted(gpu)
    }

    /// Submits a pass without output. With overflow detection, waits for its flag.
    pub(super) fn finish(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        if self.detects_f16_overflow {
            return self.read(gpu, encoder, Slot::F16Overflow, OVERFLOW_FLAG_BYTES as usize, |_| ());
        }
        self.submit(gpu, encoder)
    }

    /// Submits a pass with its uploads and passes the first `bytes` bytes of a slot to
    /// `read`.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`], and errors of the device.
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

    /// As [`Forward::read`], for the end of a pass. An earlier submit may already contain
    /// its uploads.
    pub(in crate::model) fn read_end<T>(
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
        if self.detects_f16_overflow {
            self.readback.copy_after(&mut encoder, self.f16_overflow_flag(), OVERFLOW_FLAG_BYTES, all);
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
                (read(own), if flag.is_empty() { Ok(()) } else { f16_overflow::check(flag) })
            },
        )?;
        checked.map(|()| value)
    }
}
