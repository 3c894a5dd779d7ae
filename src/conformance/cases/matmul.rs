//! Cases of gemv and gemm.

use std::fmt;

use half::f16;

use super::activation::{SOFT_CAP_ERROR, STEEPEST, function, function_error};
use super::data::{Random, U, batch, floats, matrix, pad_columns, record, rounded, step, sum_error};
use super::gated::{gated_expected, interleaved};
use super::rotary::RotaryShape;
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{BoundBuffer, Gpu, GpuBuffer, Recorder, Work};
use crate::kernels::{Activation, Candidate, Matmul, MatmulForm, Rotary, Row, Step, StepRows, gemm};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// Values of the inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatmulInput {
    /// Uniform in [-1, 1].
    Random,
    /// Inputs for which the sums before the activation take extreme values.
    Extremes,
}

/// Arguments of the activation functions: around 0, where the functions bend or saturate,
/// and where exp or a cube would overflow.
const EXTREMES: [f32; 24] = [
    0.0, 1e-7, -1e-7, 1e-3, -1e-3, 0.1, -0.1, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 5.5, -5.5, 9.0, -9.0, 12.0,
    -12.0, 90.0, -90.0, 1e4, -1e4, -6e4,
];

/// The interpretation of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatmulOutput {
    /// The sums are the output.
    Plain,
    /// The sums are gate and up of a gated MLP.
    Gated,
    /// The sums are q, k and v; q and k are rotated.
    Rotated {
        /// Shape of the row of q, k and v.
        rotary: RotaryShape,
        /// Position of the first row of a chunk, or of the last row of a batch.
        position: usize,
        /// Whether the rows are a batch with descending positions.
        batch: bool,
    },
}

/// `out = activate(x * weights^T + bias) [+ out]` in one of several forms.
#[derive(Clone, Debug, PartialEq)]
pub struct MatmulCase {
    /// Number of rows of x; 1 or a few for gemv.
    pub m: usize,
    /// Output features. For a gated MLP, the number of features of the gate, and of up.
    pub n: Axis,
    /// Input features.
    pub k: Axis,
    /// Data type of the weights.
    pub dtype: DType,
    /// Whether there is a bias.
    pub bias: bool,
    /// Activation after the bias.
    pub activation: Activation,
    /// Bound of the soft cap after the activation.
    pub soft_cap: Option<f32>,
    /// The interpretation of the sums.
    pub output: MatmulOutput,
    /// Whether the result is added to the output's previous content.
    pub accumulate: bool,
    /// Rows per piece of the weights; a multiple of 8.
    pub piece_rows: usize,
    /// Rows of the weights per dispatch.
    pub rows_at_once: Option<usize>,
    /// Values of the inputs.
    pub input: MatmulInput,
}

impl MatmulCase {
    /// Creates a case with random inputs, a single piece and an empty epilogue.
    #[must_use]
    pub fn plain(m: usize, n: usize, k: usize, dtype: DType) -> Self {
        MatmulCase {
            m,
            n: Axis::plain(n),
            k: Axis::plain(k),
            dtype,
            bias: false,
            activation: Activation::None,
            soft_cap: None,
            output: MatmulOutput::Plain,
            accumulate: false,
            piece_rows: n.next_multiple_of(8),
            rows_at_once: None,
            input: MatmulInput::Random,
        }
    }

    /// Creates a case of a gated MLP with `n` outputs, with random inputs and a single
    /// piece.
    #[must_use]
    pub fn gated(m: usize, n: usize, k: usize, dtype: DType, activation: Activation) -> Self {
        let (output, piece_rows) = (MatmulOutput::Gated, 2 * pad_row(n));
        MatmulCase { activation, output, piece_rows, ..MatmulCase::plain(m, n, k, dtype) }
    }

    /// Creates a case of q, k and v for consecutive rows or a batch, with random inputs
    /// and a single piece.
    #[must_use]
    pub fn rotated(
        m: usize,
        k: usize,
        dtype: DType,
        rotary: RotaryShape,
        position: usize,
        batch: bool,
    ) -> Self {
        let (n, output) = (rotary.axis(), MatmulOutput::Rotated { rotary, position, batch });
        MatmulCase { n, output, piece_rows: n.padded_len(), ..MatmulCase::plain(m, 1, k, dtype) }
    }

    /// Returns the number of rows of the weights and of the bias, without padding.
    pub(super) fn n_weight_rows(&self) -> usize {
        if self.output == MatmulOutput::Gated { 2 * self.n.len() } else { self.n.len() }
    }

    /// Returns the row axis of the matrix.
    pub(super) fn matrix_rows(&self) -> Axis {
        match self.output {
            MatmulOutput::Gated => Axis::plain(2 * self.n.padded_len()),
            MatmulOutput::Plain | MatmulOutput::Rotated { .. } => self.n,
        }
    }

    /// Returns the rows of the weights, `[.., k]`, in the order of the matrix.
    fn in_order(&self, values: &[f32], k: usize) -> Vec<f32> {
        match self.output {
            MatmulOutput::Gated => interleaved(values, self.n.len(), k),
            MatmulOutput::Plain | MatmulOutput::Rotated { .. } => values.to_vec(),
        }
    }

    /// Returns x, weights, bias and output without padding. x and weights have values
    /// that `candidate` does not round.
    fn inputs(&self, candidate: &Candidate) -> Inputs {
        let (n, k) = (self.n_weight_rows(), self.k.len());
        let mut random = Random::new(1);
        let mut x = random.uniform(self.m * k, 1.0);
        let mut weights = random.uniform(n * k, 1.0);
        if self.input == MatmulInput::Extremes {
            // Column 0 of the weights contains the sum, and x selects it.
            x.fill(0.0);
            weights.fill(0.0);
            x.iter_mut().step_by(k).for_each(|x| *x = 1.0);
            let sums = EXTREMES.iter().cycle();
            weights.iter_mut().step_by(k).zip(sums).for_each(|(w, &sum)| *w = sum);
        }
        let bias = self.bias.then(|| random.uniform(n, 1.0));
        if candidate.rounds_to_f16() {
            (x, weights) = (to_normal_f16(x), to_normal_f16(weights));
        }
        let n = self.m * self.n.len();
        let residual = if self.accumulate { random.uniform(n, 1.0) } else { vec![0.0; n] };
        Inputs { x, weights: rounded(self.dtype, weights), bias, residual }
    }

    /// Returns value and tolerance of each output, `[m, n]`.
    fn expected(&self, candidate: &Candidate, inputs: &Inputs) -> Vec<Expected> {
        let k = self.k.len();
        let bias = inputs.bias.as_deref();
        let activate = function(self.activation);
        let cap = |x| self.soft_cap.map_or(x, |cap| reference::activation::soft_cap(x, f64::from(cap)));
        let want = reference::gemm(&inputs.x, &inputs.weights, bias, k, |sum| cap(activate(sum)));
        let sums = reference::gemm(&inputs.x, &inputs.weights, bias, k, |sum| sum);
        let magnitudes = |values: &[f32]| values.iter().map(|x| x.abs()).collect::<Vec<f32>>();
        let bias_magnitudes = bias.map(magnitudes);
        let magnitude = reference::gemm(
            &magnitudes(&inputs.x),
            &magnitudes(&inputs.weights),
            bias_magnitudes.as_deref(),
            k,
            |sum| sum,
        );
        let sum_error = |i: usize| relative_error(candidate, k) * f64::from(magnitude[i]);
        if self.output == MatmulOutput::Gated {
            return gated_expected(self.activation, self.n.len(), &sums, sum_error);
        }
        let cap_error = if self.soft_cap.is_some() { SOFT_CAP_ERROR } else { 0.0 };
        let mut expected: Vec<Expected> = (0..want.len())
            .map(|i| {
                let value = f64::from(want[i]);
                let total = value + f64::from(inputs.residual[i]);
                let through =
                    STEEPEST * sum_error(i) + function_error(self.activation, f64::from(sums[i]).abs());
                let rounding = 2.0 * U * (value.abs() + total.abs()) + cap_error * value.abs();
                Expected::Value { want: total, tolerance: through + rounding }
            })
            .collect();
        if let MatmulOutput::Rotated { rotary, .. } = self.output {
            for (i, row) in expected.chunks_mut(self.n.len()).enumerate() {
                rotary.rotate(row, self.row_position(i));
            }
        }
        expected
    }

    /// Returns the position of a row of q, k and v in its sequence.
    fn row_position(&self, row: usize) -> usize {
        match self.output {
            MatmulOutput::Rotated { position, batch, .. } => {
                position + if batch { self.m - 1 - row } else { row }
            }
            MatmulOutput::Plain | MatmulOutput::Gated => row,
        }
    }

    pub(super) fn prepare(
        &self,
        gpu: &Gpu,
        candidate: &Candidate,
        case: String,
        record_op: impl FnOnce(&mut Recorder<'_>, gemm::Scratch<'_>, &Matmul<'_>) -> Result<()>,
    ) -> Result<Prepared> {
        let inputs = self.inputs(candidate);
        let x = floats(gpu, "x", &pad_columns(&inputs.x, self.k))?;
        let rows = self.matrix_rows();
        let weights = self.in_order(&inputs.weights, self.k.len());
        let weights = matrix(gpu, self.dtype, &weights, rows, self.k, self.piece_rows)?;
        let bias = match &inputs.bias {
            Some(bias) => Some(floats(gpu, "bias", &pad_columns(&self.in_order(bias, 1), rows))?),
            None => None,
        };
        let width = self.n.padded_len();
        let mut expected = vec![Expected::exactly(0.0); self.m * width];
        for (i, element) in self.expected(candidate, &inputs).into_iter().enumerate() {
            expected[i / self.n.len() * width + self.n.position(i % self.n.len())] = element;
        }
        let initial = if self.accumulate { pad_columns(&inputs.residual, self.n) } else { Vec::new() };
        let (output, out) =
            Output::new(gpu, "out", Format::Float(DType::F32), bytemuck::cast_slice(&initial), expected)?;
        // The scratch has guard words after it. Its content is not compared.
        let scratch = |name, elems: usize| -> Result<Option<(Output, GpuBuffer)>> {
            let any = vec![Expected::Any; elems];
            let format = Format::Float(DType::F32);
            if elems == 0 { Ok(None) } else { Output::new(gpu, name, format, &[], any).map(Some) }
        };
        let splits = scratch("splits", gemm::scratch_bytes(candidate, rows.padded_len()) as usize / 4)?;
        let passed = self.output == MatmulOutput::Gated && gemm::needs_gated_scratch(candidate);
        let gated = scratch("gate and up", if passed { self.m * rows.padded_len() } else { 0 })?;
        let position = self.row_position(0) as u32;
        let step = step(gpu, Step { n_rows: self.m as u32, position, ..Step::default() })?;
        let rope = self.rope(gpu)?;
        let dispatches = record(gpu, |recorder| {
            let scratch = gemm::Scratch {
                splits: splits.as_ref().map(|(_, buffer)| buffer),
                gated: gated.as_ref().map(|(_, buffer)| buffer),
            };
            let op = Matmul {
                step: (&step).into(),
                x: &x,
                weights: &weights,
                bias: bias.as_ref(),
                activation: self.activation,
                soft_cap: self.soft_cap,
                form: self.form((&step).into(), rope.as_ref()),
                accumulate: self.accumulate,
                out: &out,
                rows_at_once: self.rows_at_once,
            };
            record_op(recorder, scratch, &op)
        })?;
        Ok(Prepared {
            case,
            reason: if candidate.rounds_to_f16() {
                "sum of k products of f16, each addition truncated to f32, relative to the sum of their \
                 magnitudes; the activation's own error"
            } else {
                "f32 sum of k terms, relative to the sum of their magnitudes; the activation's own error"
            },
            dispatches,
            work: Work { n_rows: self.m as u32, kv_len: 0 },
            outputs: splits.into_iter().chain(gated).chain([(output, out)]).collect(),
        })
    }

    /// Returns the table of a rotation, and the rows if they are a batch.
    fn rope(&self, gpu: &Gpu) -> Result<Option<Rope>> {
        let MatmulOutput::Rotated { rotary, position, batch: is_batch } = self.output else {
            return Ok(None);
        };
        let table = rotary.table(gpu, position + self.m)?;
        let row = |row| Row { position: self.row_position(row) as u32, ..Row::default() };
        let rows: Vec<Row> = (0..self.m).map(row).collect();
        let batch = if is_batch { Some(batch(gpu, &rows)?) } else { None };
        Ok(Some(Rope { table, batch }))
    }

    fn form<'a>(&self, step: BoundBuffer<'a>, rope: Option<&'a Rope>) -> MatmulForm<'a> {
        match (self.output, rope) {
            (MatmulOutput::Rotated { rotary, .. }, Some(Rope { table, batch })) => {
                let rows = StepRows { step, batch: batch.as_ref().map(Into::into) };
                let head_dim = pad_row(rotary.head_dim);
                MatmulForm::Rotated(Rotary { rows, table, n_heads: rotary.n_rotated(), head_dim })
            }
            (MatmulOutput::Gated, _) => MatmulForm::Gated,
            _ => MatmulForm::Plain,
        }
    }
}

/// Buffers of a rotation.
struct Rope {
    table: GpuBuffer,
    batch: Option<GpuBuffer>,
}

/// Rounds values to normal numbers of f16. Values below its smallest normal number become
/// zero, as on matrix units that flush them.
fn to_normal_f16(values: Vec<f32>) -> Vec<f32> {
    let smallest = f16::MIN_POSITIVE.to_f32();
    let mut values = rounded(DType::F16, values);
    values.iter_mut().filter(|x| x.abs() < smallest).for_each(|x| *x = 0.0);
    values
}

/// Returns an error bound for a sum of `k` products, relative to the sum of their
/// magnitudes. Matrix units add exact products but truncate (Fasi, Higham, Mikaitis and
/// Pranesh 2021, "Numerical behavior of NVIDIA tensor cores"). All errors then have the
/// same sign, and each addition has an error of at most one unit in the last place.
fn relative_error(candidate: &Candidate, k: usize) -> f64 {
    if candidate.rounds_to_f16() { (k as f64 + 1.0) * 2.0 * U } else { sum_error(k) }
}

struct Inputs {
    x: Vec<f32>,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    residual: Vec<f32>,
}

impl fmt::Display for MatmulCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m={} n={} k={} {}", self.m, axis(self.n), axis(self.k), self.dtype)?;
        if self.piece_rows < self.n.padded_len() {
            write!(f, " pieces of {}", self.piece_rows)?;
        }
        if self.bias {
            write!(f, " bias")?;
        }
        if self.activation != Activation::None {
            write!(f, " {:?}", self.activation)?;
        }
        if let Some(cap) = self.soft_cap {
            write!(f, " cap {cap}")?;
        }
        match self.output {
            MatmulOutput::Plain => {}
            MatmulOutput::Gated => write!(f, " gated")?,
            MatmulOutput::Rotated { rotary, position, batch } => {
                write!(f, " {rotary} at {position}{}", if batch { " batch" } else { "" })?;
            }
        }
        if let Some(rows) = self.rows_at_once {
            write!(f, " {rows} rows at once")?;
        }
        if self.accumulate {
            write!(f, " accumulate")?;
        }
        if self.input == MatmulInput::Extremes {
            write!(f, " extremes")?;
        }
        Ok(())
    }
}

fn axis(axis: Axis) -> String {
    if axis.groups == 1 { axis.size.to_string() } else { format!("{}x{}", axis.groups, axis.size) }
}
