//! Submits a pass and reads its result.

use super::Forward;
use crate::error::Result;
use crate::gpu::{Encoder, Gpu};
use crate::kernels::argmax;
use crate::model::dims::Slot;
use crate::model::output::{Output, bad_logits};

impl Forward {
    pub(super) fn check_rows(&self, n: usize, output: &Output<'_>) {
        let most = match output {
            Output::Rows(_) | Output::OnGpu { every_row: true } => self.dims.logits_rows,
            Output::ArgmaxRows(_) => self.dims.batch,
            _ => n,
        };
        assert!(n <= most, "more rows than there is room for");
    }

    /// Submits a pass; reads its requested output and the overflow flag.
    pub(super) fn bring_back(
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
}
