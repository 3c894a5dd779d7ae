//! Cases of the product of gate and up.

use std::fmt;

use super::activation::{STEEPEST, function, function_error};
use super::data::{Random, U, floats, record, step};
use crate::conformance::output::{Expected, Format, Output, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Activation, Step, gated, gated_row};
use crate::reference;
use crate::tensor::{Axis, DType, pad_row};

/// `activate(gate) * up` for some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedCase {
    /// Number of rows.
    pub n_rows: usize,
    /// Columns of the output.
    pub n: usize,
    /// Activation of the gate.
    pub activation: Activation,
}

impl GatedCase {
    pub(super) fn prepare(&self, gpu: &Gpu, case: String) -> Result<Prepared> {
        let GatedCase { n_rows, n, activation } = *self;
        let mut random = Random::new(13);
        let axis = Axis::plain(n);
        let width = axis.padded_len();
        let activate = function(activation);
        let (mut x, mut expected) = (Vec::new(), vec![Expected::exactly(0.0); n_rows * width]);
        for row in expected.chunks_mut(width) {
            let (gate, up) = (random.uniform(n, 8.0), random.uniform(n, 8.0));
            for (i, want) in reference::gated(&gate, &up, activate).into_iter().enumerate() {
                let want = f64::from(want);
                let error = function_error(activation, f64::from(gate[i]).abs()) * f64::from(up[i]).abs();
                row[axis.position(i)] = Expected::Value { want, tolerance: error + 4.0 * U * want.abs() };
            }
            x.extend(interleaved(&[gate, up].concat(), n, 1));
        }
        let x = floats(gpu, "gate and up", &x)?;
        let (output, out) = Output::new(gpu, "out", Format::Float(DType::F32), &[], expected)?;
        let n_rows = n_rows as u32;
        let step = step(gpu, Step { n_rows, ..Step::default() })?;
        let op = gated::Gated { step: (&step).into(), n: width, activation, x: &x, out: &out };
        let dispatches = record(gpu, |recorder| gated::record(recorder, &op))?;
        Ok(Prepared {
            case,
            reason: "the activation's own error, one product",
            dispatches,
            work: Work { n_rows, kv_len: 0 },
            outputs: vec![(output, out)],
        })
    }
}

/// Reorders rows of `k` values, `n` gates followed by `n` ups, into the order and padding
/// of the matrix that contains both.
pub(super) fn interleaved(values: &[f32], n: usize, k: usize) -> Vec<f32> {
    let mut out = vec![0.0; 2 * pad_row(n) * k];
    for (at, row) in out.chunks_mut(k).enumerate() {
        let [up, i] = gated_row(at);
        if i < n {
            row.copy_from_slice(&values[(up * n + i) * k..][..k]);
        }
    }
    out
}

/// Returns value and tolerance of a gated MLP with `n` outputs, `[m, n]`. Each row of
/// `sums` contains gates, then ups. `sum_error` returns the error of each sum.
pub(super) fn gated_expected(
    activation: Activation,
    n: usize,
    sums: &[f32],
    sum_error: impl Fn(usize) -> f64,
) -> Vec<Expected> {
    let activate = function(activation);
    let mut expected = Vec::new();
    for (m, row) in sums.chunks(2 * n).enumerate() {
        let (gate, up) = row.split_at(n);
        for (i, want) in reference::gated(gate, up, activate).into_iter().enumerate() {
            let (of_gate, of_up) = (sum_error(2 * m * n + i), sum_error(2 * m * n + n + i));
            let (want, gate, up) = (f64::from(want), f64::from(gate[i]), f64::from(up[i]).abs());
            let gate_error = STEEPEST * of_gate + function_error(activation, gate.abs());
            let through = gate_error * (up + of_up) + activate(gate).abs() * of_up;
            expected.push(Expected::Value { want, tolerance: through + 4.0 * U * want.abs() });
        }
    }
    expected
}

impl fmt::Display for GatedCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} n={} {}", self.n_rows, self.n, self.activation.name())
    }
}
