//! The forms of the epilogue of gemv and gemm, in addition to bias and activation: none,
//! a gated MLP, or a rotary embedding.
//!
//! Forms are fragments of the matrix kernels' epilogue, so a model with rotary positions
//! or a gated MLP costs no more dispatches than GPT-2. Partial and scaled rotary
//! embeddings differ only in the numbers of the table. If a checkpoint pairs other
//! elements, the loader permutes its rows of q and k. The fused append rotates too. With
//! detection of f16 overflow it would bind nine storage buffers, so `kv_append` then runs
//! separately. In gemm's tiles no thread has both gate and up, so both pass through a
//! buffer to [`super::gated`].

use super::fragments;
use super::{Rows, StepRows};
use crate::gpu::{BoundBuffer, Fragment, GpuBuffer};

/// The form of a projection's output.
#[derive(Clone, Copy, Debug)]
pub enum MatmulForm<'a> {
    /// No further operation.
    Plain,
    /// `activate(gate) * up` of a gated MLP (Shazeer 2020, "GLU Variants Improve
    /// Transformer"). Gate and up are one matrix with its rows in the order of
    /// [`gated_row`]. The output has half as many columns.
    Gated,
    /// q, k and v, with q and k rotated.
    Rotated(Rotary<'a>),
}

/// Returns the content of a row in the matrix of gate and up: 0 for gate or 1 for up, and
/// the number of its output. Gate and up alternate in groups of four rows, so a thread
/// that computes eight consecutive rows has both for four outputs.
#[must_use]
pub const fn gated_row(row: usize) -> [usize; 2] {
    [row / 4 % 2, row / 8 * 4 + row % 4]
}

/// A rotary embedding (Su et al. 2021, "RoFormer") of the first heads of a row. It
/// rotates pairs of adjacent elements.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// The step's rows and their positions, each below `n_ctx`.
    pub rows: StepRows<'a>,
    /// `[n_ctx, head_dim / 2, 2 (cos, sin)]`, f32. Angles are 0 for elements that are not
    /// rotated and for padding.
    pub table: &'a GpuBuffer,
    /// Rotated heads: all heads of q and k.
    pub n_heads: usize,
    /// Elements of a head with padding.
    pub head_dim: usize,
}

/// The properties of a [`MatmulForm`] on which a variant depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// [`MatmulForm::Plain`]
    Plain,
    /// [`MatmulForm::Gated`]
    Gated,
    /// [`MatmulForm::Rotated`], for a kind of rows.
    Rotated(Rows),
}

impl Form {
    /// Returns the constant of the fragment `output`.
    pub(super) const fn gated(self) -> (&'static str, u32) {
        ("GATED", matches!(self, Form::Gated) as u32)
    }

    /// Returns whether outputs are rotated.
    #[must_use]
    pub const fn is_rotated(self) -> bool {
        matches!(self, Form::Rotated(_))
    }

    /// Returns the fragment with `turned`.
    pub(super) fn rotation(self) -> Fragment {
        fragments::rope(self.is_rotated())
    }

    /// Returns [`Form::rotation`], and also the rows fragment that it needs, for a kernel
    /// that has none.
    pub(super) fn rotation_and_rows(self) -> Vec<Fragment> {
        let mut fragments = vec![self.rotation()];
        if let Form::Rotated(rows) = self {
            fragments.push(fragments::rows(rows));
        }
        fragments
    }
}

impl<'a> MatmulForm<'a> {
    /// Returns the properties on which a variant depends.
    #[must_use]
    pub fn kind(&self) -> Form {
        match self {
            MatmulForm::Plain => Form::Plain,
            MatmulForm::Gated => Form::Gated,
            MatmulForm::Rotated(rotary) => Form::Rotated(rotary.rows.kind()),
        }
    }

    /// Returns the rotated elements of a row, and the elements of a head.
    pub(super) fn rotated_elems(&self) -> [usize; 2] {
        match self {
            MatmulForm::Plain | MatmulForm::Gated => [0, 0],
            MatmulForm::Rotated(Rotary { n_heads, head_dim, .. }) => [n_heads * head_dim, *head_dim],
        }
    }

    /// Returns the output columns for a matrix of `n_rows`.
    pub(super) fn out_columns(&self, n_rows: usize) -> usize {
        if matches!(self, MatmulForm::Gated) { n_rows / 2 } else { n_rows }
    }

    /// Returns the bindings of the rotation. They have the highest indices.
    pub(super) fn bindings(&self) -> Vec<BoundBuffer<'a>> {
        match self {
            MatmulForm::Plain | MatmulForm::Gated => Vec::new(),
            MatmulForm::Rotated(Rotary { rows, table, .. }) => {
                rows.batch.into_iter().chain([BoundBuffer::from(*table)]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::gated_row;

    #[test]
    fn rows_of_gate_and_up_alternate_in_fours() {
        let gates = [0, 3, 8, 17].map(gated_row);
        assert_eq!(gates, [[0, 0], [0, 3], [0, 4], [0, 9]]);
        let ups = [4, 7, 12, 21].map(gated_row);
        assert_eq!(ups, [[1, 0], [1, 3], [1, 4], [1, 9]]);
    }
}
