//! What gemv and gemm make of their sums beyond bias and activation: nothing, a
//! gated MLP, a rotary embedding.

use super::fragments;
use super::{Rows, StepRows};
use crate::gpu::{BoundBuffer, Fragment, GpuBuffer};

/// The form of a projection's output.
#[derive(Clone, Copy, Debug)]
pub enum MatmulForm<'a> {
    /// As it is.
    Plain,
    /// `activate(gate) * up` of a gated MLP (Shazeer 2020, "GLU Variants Improve
    /// Transformer"): gate and up are one matrix, whose rows are in the order of [`gated_row`];
    /// the output has half as many columns.
    Gated,
    /// q, k and v, of which q and k are rotated.
    Rotated(Rotary<'a>),
}

/// What stands in a row of the one matrix that holds gate and up: 0 for the gate, 1 for
/// up, and of which output. Four of either take turns, so that a thread that computes
/// eight neighbouring rows has both of four outputs.
#[must_use]
pub const fn gated_row(row: usize) -> [usize; 2] {
    [row / 4 % 2, row / 8 * 4 + row % 4]
}

/// A rotary embedding (Su et al. 2021, "RoFormer") of the first heads of a row, of
/// pairs of neighbouring elements.
#[derive(Clone, Copy, Debug)]
pub struct Rotary<'a> {
    /// The step's rows and their positions, each below `n_ctx`.
    pub rows: StepRows<'a>,
    /// `[n_ctx, head_dim / 2, 2 (cos, sin)]`, f32: angles of 0 where a head is not
    /// rotated, and in its padding.
    pub table: &'a GpuBuffer,
    /// Heads that are rotated: those of q and k.
    pub n_heads: usize,
    /// Elements of a head with padding.
    pub head_dim: usize,
}

/// What a variant depends on of a [`MatmulForm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// [`MatmulForm::Plain`]
    Plain,
    /// [`MatmulForm::Gated`]
    Gated,
    /// [`MatmulForm::Rotated`], of rows of a kind.
    Rotated(Rows),
}

impl Form {
    /// Whether outputs are rotated.
    #[must_use]
    pub const fn is_rotated(self) -> bool {
        matches!(self, Form::Rotated(_))
    }

    /// `rotated`.
    pub(super) fn rotation(self) -> Vec<Fragment> {
        fragments::rotate_outputs(self.is_rotated())
    }

    /// [`Form::rotation`] with the positions that it needs, for a kernel without rows.
    pub(super) fn rotation_and_rows(self) -> Vec<Fragment> {
        let mut fragments = self.rotation();
        if let Form::Rotated(rows) = self {
            fragments.push(fragments::rows(rows));
        }
        fragments
    }
}

impl<'a> MatmulForm<'a> {
    /// What a variant depends on.
    #[must_use]
    pub fn kind(&self) -> Form {
        match self {
            MatmulForm::Plain => Form::Plain,
            MatmulForm::Gated => Form::Gated,
            MatmulForm::Rotated(rotary) => Form::Rotated(rotary.rows.kind()),
        }
    }

    /// Elements of a row that are rotated, and of a head.
    pub(super) fn rotated_elems(&self) -> [usize; 2] {
        match self {
            MatmulForm::Plain | MatmulForm::Gated => [0, 0],
            MatmulForm::Rotated(Rotary { n_heads, head_dim, .. }) => [n_heads * head_dim, *head_dim],
        }
    }

    /// Columns of the output of a matrix of `n_rows`.
    pub(super) fn out_columns(&self, n_rows: usize) -> usize {
        if matches!(self, MatmulForm::Gated) { n_rows / 2 } else { n_rows }
    }

    /// The rotation's bindings, those of the highest indices.
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
    fn gate_and_up_take_turns_by_four() {
        let gates = [0, 3, 8, 17].map(gated_row);
        assert_eq!(gates, [[0, 0], [0, 3], [0, 4], [0, 9]]);
        let ups = [4, 7, 12, 21].map(gated_row);
        assert_eq!(ups, [[1, 0], [1, 3], [1, 4], [1, 9]]);
    }
}
