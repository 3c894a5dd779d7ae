//! The test bed's steps, matrices and buffers of numbers.

use crate::error::Result;
use crate::gpu::{BoundBuffer, BufferUse, Gpu, GpuBuffer, MemoryGroup, Work};
use crate::kernels::{Batch, Matrix, MatrixLayout, Op, Piece, Row, Step, StepRows};
use crate::tensor::DType;

/// The step buffers of one kind: a prefill chunk or a decode row.
pub(super) struct Rows {
    pub(super) step: GpuBuffer,
    batch: GpuBuffer,
    pub(super) work: Work,
}

impl Rows {
    /// Creates a step of `n_rows` rows of one sequence; the last row is at position
    /// `kv_len` - 1.
    pub(super) fn new(gpu: &Gpu, n_rows: usize, kv_len: usize) -> Result<Self> {
        let work = Work { n_rows: n_rows as u32, kv_len: kv_len as u32 };
        let position = work.kv_len - work.n_rows;
        let step = Step { n_rows: work.n_rows, first_row: 0, position, kv_len: work.kv_len };
        let mut batch: Batch = bytemuck::Zeroable::zeroed();
        batch.rows[0] = Row { position: work.kv_len - 1, kv_len: work.kv_len, first_page: 0, unused: 0 };
        let uniform = |name, bytes: &[u8]| -> Result<GpuBuffer> {
            let group = MemoryGroup::Activations;
            let buffer = gpu.allocate(name, bytes.len() as u64, BufferUse::Uniform, group)?;
            gpu.upload(&buffer, 0, bytes)?;
            Ok(buffer)
        };
        Ok(Rows {
            step: uniform("step", bytemuck::bytes_of(&step))?,
            batch: uniform("batch", bytemuck::bytes_of(&batch))?,
            work,
        })
    }

    /// Returns the rows in the form that `op` binds.
    pub(super) fn bound(&self, op: Op) -> StepRows<'_> {
        let chunk = matches!(op, Op::AttentionPrefill | Op::Gemm);
        let batch = (!chunk).then(|| BoundBuffer::from(&self.batch));
        StepRows { step: (&self.step).into(), batch }
    }
}

/// Allocates a matrix of padded sizes in pieces that fit the device's bindings.
pub(super) fn matrix(gpu: &Gpu, n_rows: usize, n_columns: usize, dtype: DType) -> Result<Matrix> {
    let at_once = Matrix::rows_per_piece(n_columns, dtype, gpu.max_binding_bytes());
    let pieces = (0..n_rows).step_by(at_once).map(|first_row| {
        let n_rows = at_once.min(n_rows - first_row);
        let bytes = (n_rows * n_columns * dtype.size_bytes()) as u64;
        Ok(Piece { first_row, n_rows, buffer: numbers(gpu, "weights", bytes, dtype)? })
    });
    let layout = MatrixLayout::preferred_by(gpu.capabilities().strategy);
    Ok(Matrix { dtype, layout, n_rows, n_columns, pieces: pieces.collect::<Result<_>>()? })
}

/// Bytes written per upload.
const BLOCK_BYTES: usize = 1 << 20;

/// Allocates a buffer of numbers between -1/8 and 1/8. Zeros might be faster to read or
/// to compute with than a model's values.
pub(super) fn numbers(gpu: &Gpu, name: &str, bytes: u64, dtype: DType) -> Result<GpuBuffer> {
    let group = if dtype == DType::F32 { MemoryGroup::Activations } else { MemoryGroup::Weights };
    let buffer = gpu.allocate(name, bytes, BufferUse::Storage, group)?;
    let elems = BLOCK_BYTES.min(bytes as usize) / dtype.size_bytes();
    // Knuth's multiplicative hash; its upper 16 bits are exact in f32.
    let number = |i: u32| ((i.wrapping_mul(2_654_435_769) >> 16) as f32 / 32_768.0 - 1.0) / 8.0;
    let values = (0..elems as u32).map(number);
    let block: Vec<u8> = match dtype {
        DType::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
        DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
    };
    for offset in (0..bytes).step_by(block.len().max(1)) {
        let n = (bytes - offset).min(block.len() as u64) as usize;
        gpu.upload(&buffer, offset, &block[..n])?;
    }
    Ok(buffer)
}
