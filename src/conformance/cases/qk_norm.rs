//! Cases of the normalization and rotation of q and k heads in place.

use std::f64::consts::TAU;
use std::fmt;

use super::data::{Random, U, batch, floats, pad_columns, record, step};
use super::norm::rms_error;
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Row, Step, StepRows, qk_norm};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// RMS normalization of the heads of q and k, followed by their rotation.
#[derive(Clone, Debug, PartialEq)]
pub struct QkNormCase {
    /// Number of rows.
    pub n_rows: usize,
    /// Position of the first row of a chunk, or of the last row of a batch.
    pub position: usize,
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key heads, and of value heads.
    pub n_kv_head: usize,
    /// Elements per head, without padding.
    pub head_dim: usize,
    /// Maximum magnitude of q and k.
    pub scale: f32,
    /// Rotated elements per head, an even number; `None` without a rotary table.
    pub rotated: Option<usize>,
    /// Whether the rows are a batch with descending positions.
    pub batch: bool,
}

/// Epsilon of Qwen 3.
const EPSILON: f32 = 1e-6;

impl QkNormCase {
    /// Creates a case of numbers up to 1, starting at position 0. Whole heads are
    /// rotated.
    #[must_use]
    pub fn usual(n_rows: usize, n_head: usize, n_kv_head: usize, head_dim: usize) -> Self {
        let rotated = Some(head_dim / 2 * 2);
        QkNormCase { n_rows, position: 0, n_head, n_kv_head, head_dim, scale: 1.0, rotated, batch: false }
    }

    fn row_position(&self, row: usize) -> usize {
        self.position + if self.batch { self.n_rows - 1 - row } else { row }
    }

    /// Returns cosine and sine of each rotated pair at a position.
    fn cos_sin(&self, position: usize) -> Vec<[f32; 2]> {
        let n = self.rotated.unwrap_or(0);
        let turn = |pair: usize| {
            let angle = position as f64 * 10_000f64.powf(-2.0 * pair as f64 / n as f64);
            let (sin, cos) = (angle % TAU).sin_cos();
            [cos as f32, sin as f32]
        };
        (0..n / 2).map(turn).collect()
    }

    /// Returns the table of `[n_ctx, pad_row(head_dim) / 2]` pairs of cosine and sine.
    fn table(&self, n_ctx: usize) -> Vec<f32> {
        let row = |position| {
            let mut cos_sin = self.cos_sin(position);
            cos_sin.resize(pad_row(self.head_dim) / 2, [1.0, 0.0]);
            cos_sin.into_iter().flatten()
        };
        (0..n_ctx).flat_map(row).collect()
    }

    /// Returns the expected q, k and v of a row. v is unchanged.
    fn expected(&self, position: usize, row: &[f32], weights: &[Vec<f32>; 2]) -> Vec<Expected> {
        let (cos_sin, dim) = (self.cos_sin(position), self.head_dim);
        let (q, rest) = row.split_at(self.n_head * dim);
        let (k, v) = rest.split_at(self.n_kv_head * dim);
        let mut expected = Vec::new();
        for (heads, weight) in [(q, &weights[0]), (k, &weights[1])] {
            let want = reference::qk_norm(heads, weight, EPSILON, &cos_sin);
            let normed = reference::rms_norm(heads, weight, EPSILON);
            expected.extend(want.iter().enumerate().map(|(i, &want)| {
                // A rotated element depends on itself and on its neighbour.
                let rotates = i % dim / 2 < cos_sin.len();
                let neighbour = if rotates { normed[i - i % dim + ((i % dim) ^ 1)].abs() } else { 0.0 };
                let magnitude = f64::from(normed[i].abs() + neighbour);
                let tolerance = (rms_error(dim) + 4.0 * U) * magnitude;
                Expected::Value { want: f64::from(want), tolerance }
            }));
        }
        expected.extend(v.iter().map(|&v| Expected::exactly(f64::from(v))));
        expected
    }

    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let mut random = Random::new(12);
        let axis = Axis::grouped(self.n_head + 2 * self.n_kv_head, self.head_dim);
        let qkv = random.uniform(self.n_rows * axis.len(), self.scale);
        let weights = [random.uniform(self.head_dim, 2.0), random.uniform(self.head_dim, 2.0)];
        let mut expected = vec![Expected::exactly(0.0); self.n_rows * axis.padded_len()];
        for (row, values) in qkv.chunks(axis.len()).enumerate() {
            for (i, element) in
                self.expected(self.row_position(row), values, &weights).into_iter().enumerate()
            {
                expected[row * axis.padded_len() + axis.position(i)] = element;
            }
        }
        let padded = pad_columns(&qkv, axis);
        let initial = bytemuck::cast_slice(&padded);
        let (output, qkv) = Output::new(gpu, "qkv", Format::Float(DType::F32), initial, expected)?;
        let scale = floats(gpu, "scale", &pad_columns(&weights.concat(), Axis::plain(self.head_dim)))?;
        let table = match self.rotated {
            Some(_) => Some(floats(gpu, "rope", &self.table(self.position + self.n_rows))?),
            None => None,
        };
        let (n_rows, position) = (self.n_rows as u32, self.position as u32);
        let step = step(gpu, Step { n_rows, position, ..Step::default() })?;
        let row = |row| Row { position: self.row_position(row) as u32, ..Row::default() };
        let rows: Vec<Row> = (0..self.n_rows).map(row).collect();
        let batch = if self.batch { Some(batch(gpu, &rows)?) } else { None };
        let dispatches = record(gpu, |recorder| {
            let op = qk_norm::QkNorm {
                rows: StepRows { step: (&step).into(), batch: batch.as_ref().map(Into::into) },
                qkv: &qkv,
                n_head: self.n_head,
                n_kv_head: self.n_kv_head,
                head_dim: self.head_dim,
                epsilon: EPSILON,
                scale: &scale,
                rope: table.as_ref(),
            };
            qk_norm::record(recorder, &op)
        })?;
        Ok(Prepared {
            case,
            reason: "an f32 sum of a head's squares under a root; the two products of a rotation",
            dispatches,
            work: Work { n_rows, kv_len: 0 },
            outputs: vec![(output, qkv)],
        })
    }
}

impl fmt::Display for QkNormCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let QkNormCase { n_rows, position, n_head, n_kv_head, head_dim, scale, rotated, batch } = self;
        write!(f, "rows={n_rows} at {position} heads={n_head}+{n_kv_head} of {head_dim} up to {scale:e}")?;
        if let Some(rotated) = rotated {
            write!(f, " rotated={rotated}")?;
        }
        if *batch { write!(f, " batch") } else { Ok(()) }
    }
}
