//! Cases of gemv and gemm.

use std::fmt;

use half::f16;

use super::data::{Random, U, floats, matrix, pad_columns, record, rounded, step, sum_error};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Recorder, Work};
use crate::kernels::{Activation, Candidate, Matmul, Step, gemm};
use crate::reference;
use crate::tensor::{Axis, DType};
use crate::tune::output::{Expected, Format, Output, Prepared};

/// Where the inputs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatmulInput {
    /// Uniform in [-1, 1].
    Random,
    /// So that the sums before the activation run through extreme values.
    Extremes,
}

/// Arguments of the activation functions: around 0, where they bend, where
/// they saturate, and where exp or a cube would overflow.
const EXTREMES: [f32; 24] = [
    0.0, 1e-7, -1e-7, 1e-3, -1e-3, 0.1, -0.1, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 5.5, -5.5, 9.0, -9.0, 12.0,
    -12.0, 90.0, -90.0, 1e4, -1e4, -6e4,
];

/// `out = activate(x * weights^T + bias) [+ out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatmulCase {
    /// Rows of x; 1 or a few for gemv.
    pub m: usize,
    /// Output features.
    pub n: Axis,
    /// Input features.
    pub k: Axis,
    /// Type of the weights.
    pub dtype: DType,
    /// Whether there is a bias.
    pub bias: bool,
    /// Applied after the bias.
    pub activation: Activation,
    /// Whether the result is added to what the output holds.
    pub accumulate: bool,
    /// Rows of a piece of the weights; a multiple of 8.
    pub piece_rows: usize,
    /// The inputs.
    pub input: MatmulInput,
}

impl MatmulCase {
    /// Random inputs, one piece, nothing in the epilogue.
    #[must_use]
    pub fn plain(m: usize, n: usize, k: usize, dtype: DType) -> Self {
        MatmulCase {
            m,
            n: Axis::plain(n),
            k: Axis::plain(k),
            dtype,
            bias: false,
            activation: Activation::None,
            accumulate: false,
            piece_rows: n.next_multiple_of(8),
            input: MatmulInput::Random,
        }
    }

    /// x, weights, bias and output, without padding; x and weights such that
    /// `candidate` does not round them.
    fn inputs(&self, candidate: &Candidate) -> Inputs {
        let (n, k) = (self.n.len(), self.k.len());
        let mut random = Random::new(1);
        let mut x = random.uniform(self.m * k, 1.0);
        let mut weights = random.uniform(n * k, 1.0);
        if self.input == MatmulInput::Extremes {
            // Column 0 holds the sum, x picks it out.
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
        let residual = if self.accumulate { random.uniform(self.m * n, 1.0) } else { vec![0.0; self.m * n] };
        Inputs { x, weights: rounded(self.dtype, weights), bias, residual }
    }

    /// Value and tolerance of each output, `[m, n]`.
    fn expected(&self, candidate: &Candidate, inputs: &Inputs) -> Vec<Expected> {
        let (n, k) = (self.n.len(), self.k.len());
        let bias = inputs.bias.as_deref();
        let activate = function(self.activation);
        let want = reference::gemm(&inputs.x, &inputs.weights, bias, k, activate);
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
        (0..self.m * n)
            .map(|i| {
                let value = f64::from(want[i]);
                let total = value + f64::from(inputs.residual[i]);
                let sum_error = relative_error(candidate, k) * f64::from(magnitude[i]);
                // The steepest activation, GELU, has a slope of 1.13.
                let through = 1.13 * sum_error + function_error(self.activation, f64::from(sums[i]).abs());
                let rounding = 2.0 * U * (value.abs() + total.abs());
                Expected::Value { want: total, tolerance: through + rounding }
            })
            .collect()
    }

    pub(super) fn prepare(
        &self,
        gpu: &Gpu,
        candidate: &Candidate,
        case: String,
        record_op: impl FnOnce(&mut Recorder<'_>, Option<&GpuBuffer>, &Matmul<'_>) -> Result<()>,
    ) -> Result<Prepared> {
        let inputs = self.inputs(candidate);
        let x = floats(gpu, "x", &pad_columns(&inputs.x, self.k))?;
        let weights = matrix(gpu, self.dtype, &inputs.weights, self.n, self.k, self.piece_rows)?;
        let bias = match &inputs.bias {
            Some(bias) => Some(floats(gpu, "bias", &pad_columns(bias, self.n))?),
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
        // Guard words behind it, and nothing to compare within.
        let scratch = match gemm::scratch_bytes(candidate, width) {
            0 => None,
            bytes => {
                let any = vec![Expected::Any; bytes as usize / 4];
                Some(Output::new(gpu, "scratch", Format::Float(DType::F32), &[], any)?)
            }
        };
        let step = step(gpu, Step { n_rows: self.m as u32, ..Step::default() })?;
        let dispatches = record(gpu, |recorder| {
            let op = Matmul {
                step: (&step).into(),
                x: &x,
                weights: &weights,
                bias: bias.as_ref(),
                activation: self.activation,
                accumulate: self.accumulate,
                out: &out,
                rows_at_once: None,
            };
            record_op(recorder, scratch.as_ref().map(|(_, buffer)| buffer), &op)
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
            outputs: scratch.into_iter().chain([(output, out)]).collect(),
        })
    }
}

/// Values that f16 holds as normal numbers: those below its smallest become zero,
/// as on matrix units that flush them.
fn to_normal_f16(values: Vec<f32>) -> Vec<f32> {
    let smallest = f16::MIN_POSITIVE.to_f32();
    let mut values = rounded(DType::F16, values);
    values.iter_mut().filter(|x| x.abs() < smallest).for_each(|x| *x = 0.0);
    values
}

/// A bound of the error of a sum of `k` products, relative to the sum of their
/// magnitudes. Matrix units add exact products but truncate (Fasi, Higham,
/// Mikaitis and Pranesh 2021, "Numerical behavior of NVIDIA tensor cores"): errors
/// of one sign, a unit in the last place an addition at most.
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

pub(super) fn function(activation: Activation) -> fn(f64) -> f64 {
    match activation {
        Activation::None => |x| x,
        Activation::GeluTanh => reference::activation::gelu_tanh,
        Activation::Gelu => reference::activation::gelu,
        Activation::QuickGelu => reference::activation::quick_gelu,
        Activation::Relu => reference::activation::relu,
        Activation::Silu => reference::activation::silu,
        Activation::Tanh => f64::tanh,
    }
}

/// Absolute error that the shader's function may have at `±magnitude`.
pub(super) fn function_error(activation: Activation, magnitude: f64) -> f64 {
    match activation {
        Activation::None | Activation::Relu => 0.0,
        // 1 - 2 / (e + 1): a division of 2.5 ulp (WGSL's bound) and two
        // roundings near 1.
        Activation::Tanh => 8.0 * U,
        // x times a factor in [0, 1] whose absolute error is as above; the
        // polynomial of erf adds 1.5e-7, exp's relative error of 3 + 2|y| ulp
        // counts as y e^-y at most.
        Activation::GeluTanh | Activation::Gelu | Activation::QuickGelu | Activation::Silu => {
            16.0 * U * magnitude
        }
    }
}
