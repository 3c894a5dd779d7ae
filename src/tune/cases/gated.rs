//! Cases of the product of gate and up.

use std::fmt;

use super::data::{Random, U, floats, record, step};
use super::matmul::{function, function_error, interleaved};
use crate::error::Result;
use crate::gpu::{Gpu, Work};
use crate::kernels::{Activation, Step, gated};
use crate::reference;
use crate::tensor::{Axis, DType};
use crate::tune::output::{Expected, Format, Output, Prepared};

/// `activate(gate) * up` of rows.
#[derive(Clone, Debug, PartialEq)]
pub struct GatedCase {
    /// Rows.
    pub n_rows: usize,
    /// Columns of the output.
    pub n: usize,
    /// Applied to the gate.
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

impl fmt::Display for GatedCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rows={} n={} {}", self.n_rows, self.n, self.activation.name())
    }
}
