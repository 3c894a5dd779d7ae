//! Rows of q, k and v in which q and k are rotated.

use std::fmt;

use super::data::{U, floats};
use crate::conformance::output::Expected;
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};
use crate::reference;
use crate::tensor::{Axis, pad_row};

/// A row of q, k and v, and the rotated part of each head of q and k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotaryShape {
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key heads, and of value heads.
    pub n_kv_head: usize,
    /// Elements per head, without padding.
    pub head_dim: usize,
    /// Number of rotated elements at the start of each head; even.
    pub rotary_dim: usize,
}

/// Base of the rotation angles (Su et al. 2021, section 3.2.2).
const THETA: f64 = 10_000.0;

impl RotaryShape {
    /// Returns the axis of a row of q, k and v.
    #[must_use]
    pub const fn axis(&self) -> Axis {
        Axis::grouped(self.n_head + 2 * self.n_kv_head, self.head_dim)
    }

    /// Returns the number of rotated heads.
    pub(super) const fn n_rotated(&self) -> usize {
        self.n_head + self.n_kv_head
    }

    /// Returns cosine and sine of each rotated pair.
    fn cos_sin(&self, position: usize) -> Vec<[f32; 2]> {
        let pairs = (0..self.rotary_dim).step_by(2);
        let angle = |i: usize| position as f64 * THETA.powf(-(i as f64) / self.rotary_dim as f64);
        pairs.map(angle).map(|angle| [angle.cos() as f32, angle.sin() as f32]).collect()
    }

    /// Uploads the padded table `[n_ctx, head_dim / 2, 2]` that the kernels read.
    pub(super) fn table(&self, gpu: &Gpu, n_ctx: usize) -> Result<GpuBuffer> {
        let rows = (0..n_ctx).flat_map(|position| {
            let mut row = self.cos_sin(position);
            row.resize(pad_row(self.head_dim) / 2, [1.0, 0.0]);
            row
        });
        floats(gpu, "rope", rows.collect::<Vec<_>>().as_flattened())
    }

    /// Rotates the expected values of a row without padding.
    pub(super) fn rotate(&self, row: &mut [Expected], position: usize) {
        let cos_sin = self.cos_sin(position);
        for head in row.chunks_mut(self.head_dim).take(self.n_rotated()) {
            let value = |element: &Expected| match *element {
                Expected::Value { want, tolerance } => (want, tolerance),
                _ => unreachable!("a sum has a value"),
            };
            let before: Vec<(f64, f64)> = head.iter().map(value).collect();
            let values: Vec<f32> = before.iter().map(|&(want, _)| want as f32).collect();
            let after = reference::rotary(&values, &cos_sin);
            for (i, &[cos, sin]) in cos_sin.iter().enumerate() {
                let [cos, sin] = [cos, sin].map(|x| f64::from(x.abs()));
                let [(a, error_a), (b, error_b)] = [before[2 * i], before[2 * i + 1]];
                // Two products and their sum. The inputs are themselves rounded.
                let rounding = 4.0 * U * (a.abs() + b.abs());
                for (j, through) in
                    [cos * error_a + sin * error_b, sin * error_a + cos * error_b].into_iter().enumerate()
                {
                    let want = f64::from(after[2 * i + j]);
                    head[2 * i + j] = Expected::Value { want, tolerance: through + rounding };
                }
            }
        }
    }
}

impl fmt::Display for RotaryShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RotaryShape { n_head, n_kv_head, head_dim, rotary_dim } = self;
        write!(f, "{n_head}+{n_kv_head}x{head_dim} rotated by {rotary_dim}")
    }
}
