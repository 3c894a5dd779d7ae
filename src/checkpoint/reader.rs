//! Reads rectangles of a tensor as `f32`, by positioned reads.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::source::Source;
use super::{Checkpoint, SourceDType, TensorInfo};
use crate::error::{Error, Result};

// safetensors files and GPU buffers are little-endian. wgpu has no backend for a
// big-endian host.
#[cfg(target_endian = "big")]
compile_error!("wgpt needs a little-endian host");

/// Size of the staging buffer in bytes. Reads of 1 MiB run at the speed of the page cache
/// (7 GB/s on Linux 6); larger reads are not faster. The data also stay in a second-level
/// cache until they are converted to `f32`.
const STAGING_BYTES: usize = 1 << 20;

/// If the gap between two row segments is at most this many bytes, it is read and
/// dropped. A larger gap is skipped by a separate read. A positioned read costs 0.65 us,
/// as much as reading 4.6 kB at 7 GB/s (Linux 6, x86-64, cached file).
const MAX_GAP_BYTES: usize = 4096;

/// A reader for the tensors of one [`Checkpoint`]. It owns the staging buffer (1 MiB), so
/// a read allocates nothing.
#[derive(Debug)]
pub struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    /// `u32` words, so that the bytes are aligned for every element type.
    staging: Vec<u32>,
}

/// `count` runs of `len` elements in a file. Their starts are `stride` elements apart.
struct Segments<'a> {
    source: &'a Source,
    dtype: &'a SourceDType,
    size_bytes: usize,
    offset: u64,
    len: usize,
    stride: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint) -> Self {
        Reader { checkpoint, staging: vec![0; STAGING_BYTES / size_of::<u32>()] }
    }

    /// Reads the rectangle `rows` x `cols` of `tensor` into `out`. The tensor has shape
    /// `[n_rows, n_cols]`, or `[n_cols]`, which counts as a single row. `out` is
    /// row-major, `[rows.len(), cols.len()]`. The conversion of f16 and bf16 to `f32` is
    /// exact.
    ///
    /// Whole rows are read in pieces of 1 MiB. A block of columns costs one read per row
    /// unless the rows are short, so wide blocks are faster.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the dtype is not F32, F16 or BF16, if the tensor does not
    /// have one or two dimensions, if the rectangle exceeds the tensor, or if `out`
    /// has another size; [`Error::Io`] or [`Error::Model`] if the file cannot be read
    /// or has become shorter. `out` may then be partly written.
    pub fn read_block(
        &mut self,
        tensor: &TensorInfo,
        rows: Range<usize>,
        cols: Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        let fault = |message: String| Error::tensor(&tensor.name, message);
        let Some(size_bytes) = tensor.dtype.size_bytes() else {
            return Err(fault(format!("dtype {}: expected F32, F16 or BF16", tensor.dtype)));
        };
        let (n_rows, n_cols) = match tensor.shape[..] {
            [n_cols] => (1, n_cols),
            [n_rows, n_cols] => (n_rows, n_cols),
            _ => return Err(fault(format!("shape {:?}: expected one or two dimensions", tensor.shape))),
        };
        if rows.end > n_rows || cols.end > n_cols || rows.len().checked_mul(cols.len()) != Some(out.len()) {
            return Err(fault(format!(
                "rows {rows:?}, columns {cols:?} into {} elements: there is no such block in [{n_rows}, \
                 {n_cols}]",
                out.len()
            )));
        }
        if out.is_empty() {
            return Ok(());
        }
        let Some(source) = self.checkpoint.sources.get(tensor.source) else {
            return Err(fault("belongs to another checkpoint".to_owned()));
        };
        let first_elem = rows.start * n_cols + cols.start;
        // Whole rows are contiguous and form one long segment.
        let (len, stride) = if cols.len() == n_cols { (out.len(), out.len()) } else { (cols.len(), n_cols) };
        let offset = tensor.offset + first_elem as u64 * size_bytes as u64;
        let segments = Segments { source, dtype: &tensor.dtype, size_bytes, offset, len, stride };
        segments.read(bytemuck::cast_slice_mut(&mut self.staging), out)
    }
}

impl Segments<'_> {
    /// Fills `out`, a whole number of segments, through `staging`.
    fn read(&self, staging: &mut [u8], out: &mut [f32]) -> Result<()> {
        let Segments { size_bytes, len, stride, .. } = *self;
        let staging_elems = staging.len() / size_bytes;
        let gap_bytes = (stride - len) * size_bytes;
        let per_read = if len <= staging_elems && gap_bytes <= MAX_GAP_BYTES {
            (staging_elems - len) / stride + 1
        } else {
            1
        };
        let mut first_elem = 0_u64;
        for batch in out.chunks_mut(per_read * len) {
            if per_read > 1 {
                let span = (batch.len() / len - 1) * stride + len;
                let bytes = self.fetch(first_elem, span, staging)?;
                for (row, out) in batch.chunks_exact_mut(len).enumerate() {
                    let start = row * stride * size_bytes;
                    to_f32(self.dtype, &bytes[start..start + len * size_bytes], out);
                }
            } else {
                let mut elem = first_elem;
                for piece in batch.chunks_mut(staging_elems) {
                    to_f32(self.dtype, self.fetch(elem, piece.len(), staging)?, piece);
                    elem += piece.len() as u64;
                }
            }
            first_elem += (per_read * stride) as u64;
        }
        Ok(())
    }

    /// Reads the bytes of `len` elements, starting at element `first`, which is counted
    /// from the start of the first segment.
    fn fetch<'s>(&self, first: u64, len: usize, staging: &'s mut [u8]) -> Result<&'s [u8]> {
        let bytes = &mut staging[..len * self.size_bytes];
        let offset = self.offset + first * self.size_bytes as u64;
        self.source.read_exact_at(offset, bytes).map_err(|error| self.source.read_error(error))?;
        Ok(bytes)
    }
}

/// Widens little-endian elements exactly. `bytes` must be aligned for them.
fn to_f32(dtype: &SourceDType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        SourceDType::F32 => out.copy_from_slice(bytemuck::cast_slice(bytes)),
        SourceDType::F16 => bytemuck::cast_slice::<u8, half::f16>(bytes).convert_to_f32_slice(out),
        SourceDType::Bf16 => bytemuck::cast_slice::<u8, half::bf16>(bytes).convert_to_f32_slice(out),
        SourceDType::Other(_) => unreachable!("read_block refuses a dtype without a size"),
    }
}
