//! Cases of an RMS norm.

use std::fmt;

use super::data::{Random, U, floats, pad_columns, record, step, sum_error};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Choices, Op, Step, rms_norm};
use crate::reference;
use crate::tensor::{Axis, DType};

/// Values of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmsNormInput {
    /// Uniform in [-1, 1].
    Random,
    /// Uniform in ± 10,000.
    Large,
    /// Uniform in ± 1e-4, where epsilon dominates the denominator.
    Small,
    /// All zeros.
    Zero,
    /// One feature of 30,000 per row, others below 1, as in residual streams.
    Outlier,
}

/// RMS normalization of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct RmsNormCase {
    /// Number of rows.
    pub n_rows: usize,
    /// Index of the first of these rows in the input.
    pub first_row: usize,
    /// Features per row.
    pub n: usize,
    /// Values of the rows.
    pub input: RmsNormInput,
    /// Whether the result is added to the output's previous content.
    pub accumulate: bool,
}

const EPSILON: f32 = 1e-5;

/// Returns the relative error of a normalized element of a row of `n`. The sum's error
/// counts half, since the sum is under a root. WGSL's `inverseSqrt` adds 2 units, and
/// each product adds one.
pub(super) fn relative_error(n: usize) -> f64 {
    0.5 * sum_error(n) + 8.0 * U
}

impl RmsNormCase {
    fn rows(&self, random: &mut Random) -> Vec<f32> {
        let scale = match self.input {
            RmsNormInput::Random | RmsNormInput::Outlier => 1.0,
            RmsNormInput::Large => 10_000.0,
            RmsNormInput::Small => 1e-4,
            RmsNormInput::Zero => 0.0,
        };
        let mut x = random.uniform((self.first_row + self.n_rows) * self.n, scale);
        if self.input == RmsNormInput::Outlier {
            x.iter_mut().skip(self.n / 2).step_by(self.n).for_each(|x| *x = 30_000.0);
        }
        x
    }

    pub(super) fn prepare(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let mut random = Random::new(11);
        let x = self.rows(&mut random);
        let weight = random.uniform(self.n, 2.0);
        let before = random.uniform(self.n_rows * self.n, if self.accumulate { 3.0 } else { 0.0 });
        let axis = Axis::plain(self.n);
        let normed = reference::rms_norm(&x[self.first_row * self.n..], &weight, EPSILON);
        let mut expected = vec![Expected::exactly(0.0); self.n_rows * axis.padded_len()];
        for (i, (&normed, &before)) in normed.iter().zip(&before).enumerate() {
            let (normed, before) = (f64::from(normed), f64::from(before));
            let tolerance = relative_error(self.n) * normed.abs() + 2.0 * U * before.abs();
            expected[i / self.n * axis.padded_len() + axis.position(i % self.n)] =
                Expected::Value { want: normed + before, tolerance };
        }
        let x = floats(gpu, "x", &pad_columns(&x, axis))?;
        let scale = floats(gpu, "scale", &pad_columns(&weight, axis))?;
        let before = pad_columns(&before, axis);
        let initial = if self.accumulate { bytemuck::cast_slice(&before) } else { &[][..] };
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), initial, expected)?;
        let n_rows = self.n_rows as u32;
        let step = step(gpu, Step { n_rows, first_row: self.first_row as u32, ..Step::default() })?;
        let dispatches = record(gpu, |recorder| {
            let op = rms_norm::RmsNorm {
                step: (&step).into(),
                n: self.n,
                epsilon: EPSILON,
                x: &x,
                scale: &scale,
                accumulate: self.accumulate,
                out: &out,
            };
            rms_norm::record(recorder, choices.get(Op::RmsNorm), &op)
        })?;
        Ok(Prepared {
            case,
            reason: "an f32 sum of n squares under a root, three products",
            dispatches,
            work: Work { n_rows, kv_len: 0 },
            outputs: vec![(output, out)],
        })
    }
}

impl fmt::Display for RmsNormCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RmsNormCase { n_rows, first_row, n, input, accumulate } = self;
        write!(f, "rows={first_row}+{n_rows} n={n} {input:?}")?;
        if *accumulate { write!(f, " accumulate") } else { Ok(()) }
    }
}
