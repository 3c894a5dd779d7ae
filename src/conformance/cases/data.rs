//! Seeded random numbers, rounding and the padded layout.

use half::f16;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::conformance::output::GUARD;
use crate::error::Result;
use crate::gpu::{BufferUse, Dispatch, Gpu, GpuBuffer, MemoryGroup, Params, Recorder};
use crate::kernels::{Batch, Matrix, MatrixLayout, Piece, ROWS_MAX, Row, Step, contract};
use crate::tensor::{Axis, DType};

/// Unit roundoff of f32.
pub(super) const U: f64 = 5.960_464_477_539_063e-8;

/// Returns an error bound for a sum of `n` f32 terms in any order, relative to the sum of
/// their magnitudes. Higham and Mary 2019 ("A new approach to probabilistic rounding
/// error analysis") bound it by `λ sqrt(n) u`. With λ = 8 the bound fails with a
/// probability below 1e-13.
pub(super) fn sum_error(n: usize) -> f64 {
    8.0 * (n as f64 + 1.0).sqrt() * U
}

/// Random numbers that are the same in every run.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Returns `n` numbers between -`scale` and `scale`.
    pub(super) fn uniform(&mut self, n: usize, scale: f32) -> Vec<f32> {
        // With 24 bits, every value is exact in f32.
        (0..n).map(|_| ((self.0.next_u32() >> 8) as f32 / 8_388_608.0 - 1.0) * scale).collect()
    }

    /// Returns the numbers 0 to `n` - 1 in random order.
    pub(super) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            let other = self.below(i + 1);
            all.swap(i, other);
        }
        all
    }
}

/// Rounds values to numbers that `dtype` can represent.
pub(super) fn rounded(dtype: DType, values: Vec<f32>) -> Vec<f32> {
    match dtype {
        DType::F16 => values.into_iter().map(|x| f16::from_f32(x).to_f32()).collect(),
        DType::F32 => values,
    }
}

/// Returns the bytes of `values` in `dtype`.
pub(super) fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F16 => {
            let halves: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            bytemuck::cast_slice(&halves).to_vec()
        }
        DType::F32 => bytemuck::cast_slice(values).to_vec(),
    }
}

/// Returns `[n, columns]` with zeros in the padding of `columns`.
pub(super) fn pad_columns(values: &[f32], columns: Axis) -> Vec<f32> {
    let n = values.len() / columns.len();
    let mut padded = vec![0.0; n * columns.padded_len()];
    for (row, values) in values.chunks(columns.len()).enumerate() {
        for (i, &value) in values.iter().enumerate() {
            padded[row * columns.padded_len() + columns.position(i)] = value;
        }
    }
    padded
}

/// Returns `[rows, columns]` with zeros in the padding of both.
pub(super) fn pad_matrix(values: &[f32], rows: Axis, columns: Axis) -> Vec<f32> {
    let width = columns.padded_len();
    let mut padded = vec![0.0; rows.padded_len() * width];
    for (i, row) in pad_columns(values, columns).chunks(width).enumerate() {
        padded[rows.position(i) * width..][..width].copy_from_slice(row);
    }
    padded
}

/// Uploads `values`, `[rows, columns]`, as a padded matrix in pieces of `piece_rows`, in
/// the layout that models use on the device.
pub(super) fn matrix(
    gpu: &Gpu,
    dtype: DType,
    values: &[f32],
    rows: Axis,
    columns: Axis,
    piece_rows: usize,
) -> Result<Matrix> {
    let (n_rows, n_columns) = (rows.padded_len(), columns.padded_len());
    let padded = pad_matrix(values, rows, columns);
    let mut pieces = Vec::new();
    let layout = MatrixLayout::preferred_by(gpu.capabilities().strategy);
    for (index, rows) in padded.chunks(piece_rows * n_columns).enumerate() {
        // There is no guard after a piece, because the size of its binding is tested too.
        let bytes = encode(dtype, &laid_out(layout, rows, n_columns));
        let buffer = gpu.allocate_with("weights", &bytes, MemoryGroup::Weights)?;
        pieces.push(Piece { first_row: index * piece_rows, n_rows: rows.len() / n_columns, buffer });
    }
    Ok(Matrix { dtype, layout, n_rows, n_columns, pieces })
}

/// Returns the rows of a piece in the given layout.
fn laid_out(layout: MatrixLayout, rows: &[f32], n_columns: usize) -> Vec<f32> {
    let (n_rows, n_packs) = (rows.len() / n_columns, n_columns / 8);
    let mut out = vec![0.0; rows.len()];
    for (i, pack) in rows.chunks_exact(8).enumerate() {
        let at = layout.pack_index(i / n_packs, i % n_packs, n_rows, n_packs);
        out[at * 8..][..8].copy_from_slice(pack);
    }
    out
}

/// Uploads an input with guard words after it. A read past its end then produces NaN.
pub(super) fn input(gpu: &Gpu, name: &str, bytes: &[u8]) -> Result<GpuBuffer> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded.extend([GUARD.to_le_bytes(); 8].concat());
    gpu.allocate_with(name, &padded, MemoryGroup::Activations)
}

/// Uploads f32 values like [`input`].
pub(super) fn floats(gpu: &Gpu, name: &str, values: &[f32]) -> Result<GpuBuffer> {
    input(gpu, name, bytemuck::cast_slice(values))
}

/// Uploads a step as a uniform.
pub(super) fn step(gpu: &Gpu, step: Step) -> Result<GpuBuffer> {
    let bytes = size_of::<Step>() as u64;
    let buffer = gpu.allocate("step", bytes, BufferUse::Uniform, MemoryGroup::Activations)?;
    gpu.upload(&buffer, 0, bytemuck::bytes_of(&step))?;
    Ok(buffer)
}

/// Uploads the rows of a batch as a uniform.
pub(super) fn batch(gpu: &Gpu, rows: &[Row]) -> Result<GpuBuffer> {
    // Rows outside the batch point far away.
    let far = Row { position: 1 << 20, kv_len: 1 << 20, first_page: 1 << 20, unused: 0 };
    let mut batch = Batch { rows: [far; ROWS_MAX] };
    batch.rows[..rows.len()].copy_from_slice(rows);
    let bytes = size_of::<Batch>() as u64;
    let buffer = gpu.allocate("batch", bytes, BufferUse::Uniform, MemoryGroup::Activations)?;
    gpu.upload(&buffer, 0, bytemuck::bytes_of(&batch))?;
    Ok(buffer)
}

/// Records dispatches, with space for the parameters of one case.
pub(super) fn record(gpu: &Gpu, with: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<Vec<Dispatch>> {
    // A matrix in pieces uses one slot per piece.
    let mut params = Params::new(gpu, 32)?;
    let mut recorder = contract::recorder(gpu, &mut params);
    with(&mut recorder)?;
    Ok(recorder.finish())
}
