//! Cases of a norm of rows.

use std::fmt;

use super::data::{Random, U, floats, pad_columns, record, step, sum_error};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Choices, Norm, NormForm, Step, norm};
use crate::reference;
use crate::tensor::{Axis, DType};

/// Values of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormInput {
    /// Uniform in [-1, 1].
    Random,
    /// Uniform in ± 10,000.
    Large,
    /// Uniform in 10,000 ± 1.
    LargeMean,
    /// Uniform in ± 1e-4, where epsilon dominates the denominator.
    Small,
    /// All zeros.
    Zero,
    /// All features equal: the variance is 0.
    Constant,
    /// One feature of 30,000 per row and others below 1, as in residual streams.
    Outlier,
}

/// Normalization of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct NormCase {
    /// Its form.
    pub form: NormForm,
    /// Number of rows.
    pub n_rows: usize,
    /// Index of the first of these rows in the input.
    pub first_row: usize,
    /// Features per row.
    pub n: usize,
    /// Values of the rows.
    pub input: NormInput,
    /// Whether the result is added to the output's previous content; never for a layer
    /// norm.
    pub accumulate: bool,
}

const EPSILON: f32 = 1e-5;

/// Returns the relative error of an element of an RMS-normalized row of `n`. The sum's
/// error counts half, because the sum is under a root. WGSL's `inverseSqrt` adds 2 units,
/// and each product adds one.
pub(super) fn rms_error(n: usize) -> f64 {
    0.5 * sum_error(n) + 8.0 * U
}

impl NormCase {
    /// Creates a case of the rows from 0 on, with random values.
    #[must_use]
    pub fn rows(form: NormForm, n_rows: usize, n: usize) -> Self {
        NormCase { form, n_rows, first_row: 0, n, input: NormInput::Random, accumulate: false }
    }

    fn values(&self, random: &mut Random) -> Vec<f32> {
        let scale = match self.input {
            NormInput::Random | NormInput::LargeMean | NormInput::Constant | NormInput::Outlier => 1.0,
            NormInput::Large => 10_000.0,
            NormInput::Small => 1e-4,
            NormInput::Zero => 0.0,
        };
        let mut x = random.uniform((self.first_row + self.n_rows) * self.n, scale);
        match self.input {
            NormInput::Random | NormInput::Large | NormInput::Small | NormInput::Zero => {}
            NormInput::LargeMean => x.iter_mut().for_each(|x| *x += 10_000.0),
            NormInput::Constant => {
                x.chunks_mut(self.n).enumerate().for_each(|(row, x)| x.fill(1234.567 * row as f32));
            }
            NormInput::Outlier => {
                x.iter_mut().skip(self.n / 2).step_by(self.n).for_each(|x| *x = 30_000.0);
            }
        }
        x
    }

    /// Returns the normalized values with their tolerances, `[n_rows, n]`.
    fn expected(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<[f64; 2]> {
        match self.form {
            NormForm::Layer => self.layer_expected(x, weight, bias),
            NormForm::Rms => {
                let want = reference::rms_norm(x, weight, EPSILON);
                let with_tolerance = |want| [f64::from(want), rms_error(self.n) * f64::from(want).abs()];
                want.into_iter().map(with_tolerance).collect()
            }
        }
    }

    fn layer_expected(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<[f64; 2]> {
        let want = reference::layer_norm(x, weight, bias, EPSILON);
        // Relative error of the sums. The corrected mean has only an error of second
        // order.
        let error = sum_error(self.n);
        x.chunks(self.n)
            .zip(want.chunks(self.n))
            .flat_map(|(row, want)| {
                let n = self.n as f64;
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
                let factor = 1.0 / (variance + f64::from(EPSILON)).sqrt();
                (0..self.n).map(move |i| {
                    let z = (f64::from(row[i]) - mean) * factor;
                    let second_order = error * error * mean.abs() * factor;
                    let weight = f64::from(weight[i]).abs();
                    let relative = (error + 8.0 * U) * (z.abs() + 1.0) + second_order;
                    let want = f64::from(want[i]);
                    [want, weight * relative + 2.0 * U * (want.abs() + f64::from(bias[i]).abs())]
                })
            })
            .collect()
    }

    pub(super) fn prepare(&self, gpu: &Gpu, choices: &Choices, case: String) -> Result<Prepared> {
        let mut random = Random::new(2);
        let x = self.values(&mut random);
        let scale = [random.uniform(self.n, 2.0), random.uniform(self.n, 1.0)];
        let before = random.uniform(self.n_rows * self.n, if self.accumulate { 3.0 } else { 0.0 });
        let axis = Axis::plain(self.n);
        let mut expected = vec![Expected::exactly(0.0); self.n_rows * axis.padded_len()];
        let normed = self.expected(&x[self.first_row * self.n..], &scale[0], &scale[1]);
        for (i, ([want, tolerance], &before)) in normed.into_iter().zip(&before).enumerate() {
            let before = f64::from(before);
            expected[i / self.n * axis.padded_len() + axis.position(i % self.n)] =
                Expected::Value { want: want + before, tolerance: tolerance + 2.0 * U * before.abs() };
        }
        let x = floats(gpu, "x", &pad_columns(&x, axis))?;
        let scale = &scale[..self.form.n_vectors()];
        let scale = floats(gpu, "scale", &pad_columns(&scale.concat(), axis))?;
        let before = pad_columns(&before, axis);
        let initial = if self.accumulate { bytemuck::cast_slice(&before) } else { &[][..] };
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), initial, expected)?;
        let n_rows = self.n_rows as u32;
        let step = step(gpu, Step { n_rows, first_row: self.first_row as u32, ..Step::default() })?;
        let dispatches = record(gpu, |recorder| {
            let op = Norm {
                form: self.form,
                step: (&step).into(),
                n: self.n,
                epsilon: EPSILON,
                x: &x,
                scale: &scale,
                accumulate: self.accumulate,
                out: &out,
            };
            norm::record(recorder, choices, &op)
        })?;
        let reason = match self.form {
            NormForm::Layer => "f32 sums of n terms for mean and variance",
            NormForm::Rms => "an f32 sum of n squares under a root, three products",
        };
        let work = Work { n_rows, kv_len: 0 };
        Ok(Prepared { case, reason, dispatches, work, outputs: vec![(output, out)] })
    }
}

impl fmt::Display for NormCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NormCase { n_rows, first_row, n, input, accumulate, .. } = self;
        write!(f, "rows={first_row}+{n_rows} n={n} {input:?}")?;
        if *accumulate { write!(f, " accumulate") } else { Ok(()) }
    }
}
