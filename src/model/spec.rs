//! The tensors that a checkpoint must contain, and the order of their rows on the GPU.
//!
//! On the GPU, q, k and v are one matrix, and elements that are rotated together are
//! neighbours. A thread with four neighbouring outputs can then rotate them in a
//! projection's epilogue. If a file stores norm weights minus 1 (Gemma), loading adds the
//! 1.

use super::rope::Pairing;
use crate::kernels::gated_row;
use crate::tensor::{Axis, pad_row};

/// The layout of a tensor in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[n]`
    Vector,
    /// `[rows, columns]`, as on the GPU.
    RowMajor,
    /// `[columns, rows]`: GPT-2's Conv1D, which is transposed during loading.
    Transposed,
}

/// The role of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix.
    Matrix,
    /// A matrix whose outputs are added to the residual stream.
    Residual,
    /// A norm's weights.
    Norm,
    /// A bias.
    Bias,
}

/// The place of a tensor on the GPU in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The token embedding.
    Tokens,
    /// The learned position embedding.
    Positions,
    /// A tensor of a block, by the block's number.
    Layer(usize, LayerPart, Param),
    /// The norm before the head.
    FinalNorm(Param),
    /// The head. It has no weights if it is the token embedding.
    Head(Param),
}

/// The norms and linear maps of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerPart {
    /// The norm before attention.
    AttentionNorm,
    /// The projection to q, k and v.
    Qkv,
    /// The norm of q heads.
    QNorm,
    /// The norm of k heads.
    KNorm,
    /// The projection from attention onto the residual stream.
    Out,
    /// The norm after attention.
    AfterAttention,
    /// The norm before the MLP, if it differs from attention's.
    MlpNorm,
    /// The up projection, with the gate.
    Up,
    /// The down projection.
    Down,
    /// The norm after the MLP.
    AfterMlp,
}

/// The two tensors of a norm or of a linear map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Param {
    /// The weights.
    Weight,
    /// The bias.
    Bias,
}

/// A tensor in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name without the architecture's prefix.
    pub name: String,
    /// Number of rows that are loaded; for a vector, its elements.
    pub rows: usize,
    /// Number of rows skipped before them. OPT's positions begin at row 2.
    pub skipped: usize,
}

impl Source {
    /// Creates a source that loads all rows of a tensor.
    pub fn new(name: impl Into<String>, rows: usize) -> Self {
        Source { name: name.into(), rows, skipped: 0 }
    }
}

/// The order of the sources' rows on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One source, in the layout of its axis.
    Axis(Axis),
    /// Attention heads: all of q, then all of k, then all of v.
    Heads(Heads),
    /// The gate and up rows of a gated MLP, in the order of [`gated_row`].
    Gated {
        /// Rows of the gate, and of up.
        n_inner: usize,
        /// Whether one source holds all gate rows, then all up rows.
        one_source: bool,
    },
}

/// The heads of q, k and v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of q heads.
    pub n_head: usize,
    /// Number of k heads, which is also the number of v heads; 0 if there are only q
    /// heads.
    pub n_kv_head: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// The file's order of the rotated elements of q and k heads.
    pub pairing: Pairing,
    /// The distribution of the heads over the sources.
    pub sources: HeadSources,
}

/// The distribution of q, k and v heads over tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSources {
    /// One tensor each for q, k and v.
    Separate,
    /// One tensor: all of q, then all of k, then all of v.
    Blocks,
    /// One tensor: q, k and v of the first head, then of the second, and so on.
    Interleaved,
}

impl Heads {
    /// Returns the axis of all q, k and v heads.
    #[must_use]
    pub const fn axis(&self) -> Axis {
        Axis::grouped(self.n_head + 2 * self.n_kv_head, self.head_dim)
    }

    /// Returns the source of element `e` of head `head`, and the row in that source.
    /// Heads are numbered through q, k and v.
    fn source(&self, head: usize, e: usize) -> (usize, usize) {
        let (q, kv, dim) = (self.n_head, self.n_kv_head, self.head_dim);
        let rotated = head < q + kv;
        let e = if rotated { self.pairing.file_element(e) } else { e };
        match self.sources {
            HeadSources::Blocks => (0, head * dim + e),
            HeadSources::Separate if head < q => (0, head * dim + e),
            HeadSources::Separate => {
                let head = head - q;
                (1 + head / kv, head % kv * dim + e)
            }
            HeadSources::Interleaved => {
                // Here k and v have as many heads as q.
                let (part, head) = (head / q, head % q);
                (0, (head * 3 + part) * dim + e)
            }
        }
    }
}

impl Order {
    /// Returns the number of rows on the GPU, padding included.
    #[must_use]
    pub const fn padded_len(&self) -> usize {
        match self {
            Order::Axis(axis) => axis.padded_len(),
            Order::Heads(heads) => heads.axis().padded_len(),
            Order::Gated { n_inner, .. } => 2 * pad_row(*n_inner),
        }
    }

    /// Returns the source of a row on the GPU, and the row in that source; `None` for
    /// padding.
    #[must_use]
    pub fn source(&self, row: usize) -> Option<(usize, usize)> {
        match self {
            Order::Axis(axis) => axis.element(row).map(|element| (0, element)),
            Order::Heads(heads) => {
                let element = heads.axis().element(row)?;
                Some(heads.source(element / heads.head_dim, element % heads.head_dim))
            }
            Order::Gated { n_inner, one_source } => {
                let [input, element] = gated_row(row);
                let (source, first) = if *one_source { (0, input * n_inner) } else { (input, 0) };
                (element < *n_inner).then_some((source, first + element))
            }
        }
    }
}

/// A matrix or a vector on the GPU, and the tensors it is built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its place in the model.
    pub place: Place,
    /// Its role.
    pub role: Role,
    /// The tensors; all have the same layout and width.
    pub sources: Vec<Source>,
    /// Their layout in the file.
    pub layout: Layout,
    /// Output features; for a vector, its elements.
    pub rows: Order,
    /// Input features; 1 for a vector.
    pub columns: Axis,
    /// Whether 1 is added to each element: Gemma's files hold norm weights minus 1.
    pub plus_one: bool,
}

impl TensorSpec {
    /// Describes a vector from one tensor.
    pub(super) fn vector(place: Place, role: Role, name: impl Into<String>, axis: Axis) -> Self {
        Self::vectors(place, role, vec![Source::new(name, axis.len())], Order::Axis(axis))
    }

    /// Describes a vector from several tensors.
    pub(super) fn vectors(place: Place, role: Role, sources: Vec<Source>, rows: Order) -> Self {
        let columns = Axis::plain(1);
        TensorSpec { place, role, sources, layout: Layout::Vector, rows, columns, plus_one: false }
    }

    /// Describes a matrix from one `[rows, columns]` tensor.
    pub(super) fn matrix(place: Place, name: impl Into<String>, rows: Axis, columns: Axis) -> Self {
        let (sources, rows) = (vec![Source::new(name, rows.len())], Order::Axis(rows));
        let (role, layout) = (Role::Matrix, Layout::RowMajor);
        TensorSpec { place, role, sources, layout, rows, columns, plus_one: false }
    }

    /// Returns the name for labels and messages, which is the name of the first tensor.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.sources[0].name
    }

    /// Returns the shape of one of its tensors in the file.
    #[must_use]
    pub fn shape(&self, source: &Source) -> Vec<usize> {
        let rows = source.rows + source.skipped;
        match self.layout {
            Layout::Vector => vec![rows],
            Layout::RowMajor => vec![rows, self.columns.len()],
            Layout::Transposed => vec![self.columns.len(), rows],
        }
    }

    /// Returns the number of elements in its tensors, including skipped rows.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        let elems = |source| self.shape(source).iter().map(|&n| n as u64).product::<u64>();
        self.sources.iter().map(elems).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that every row of every source is in exactly one row on the GPU.
    fn check(order: &Order, sources: &[usize]) {
        let mut seen: Vec<Vec<bool>> = sources.iter().map(|&rows| vec![false; rows]).collect();
        for row in 0..order.padded_len() {
            if let Some((source, row)) = order.source(row) {
                assert!(!std::mem::replace(&mut seen[source][row], true), "{order:?}: {source} {row} twice");
            }
        }
        assert!(seen.iter().flatten().all(|&seen| seen), "{order:?} leaves rows out");
    }

    #[test]
    fn every_order_takes_each_source_row_once() {
        for head_dim in [3, 8, 12] {
            let paired = [Pairing::AsIs, Pairing::Halves { n_rot: head_dim / 4 * 2 }];
            for pairing in paired {
                let heads = |n_head, n_kv_head, sources| {
                    Order::Heads(Heads { n_head, n_kv_head, head_dim, pairing, sources })
                };
                let rows = |heads: usize| heads * head_dim;
                check(&heads(6, 2, HeadSources::Separate), &[rows(6), rows(2), rows(2)]);
                check(&heads(6, 1, HeadSources::Blocks), &[rows(8)]);
                check(&heads(3, 3, HeadSources::Interleaved), &[rows(9)]);
                check(&heads(1, 0, HeadSources::Separate), &[rows(1)]);
            }
        }
        for n_inner in [1, 4, 7, 8, 172] {
            check(&Order::Gated { n_inner, one_source: false }, &[n_inner, n_inner]);
            check(&Order::Gated { n_inner, one_source: true }, &[2 * n_inner]);
        }
    }

    #[test]
    fn half_split_pairs_become_neighbours() {
        let pairing = Pairing::Halves { n_rot: 6 };
        let heads = Heads { n_head: 2, n_kv_head: 1, head_dim: 8, pairing, sources: HeadSources::Separate };
        let order = Order::Heads(heads);
        let rows: Vec<_> = (8..16).map(|row| order.source(row).unwrap()).collect();
        assert_eq!(rows, [8, 11, 9, 12, 10, 13, 14, 15].map(|row| (0, row)));
        let v: Vec<_> = (24..32).map(|row| order.source(row).unwrap()).collect();
        assert_eq!(v, [0, 1, 2, 3, 4, 5, 6, 7].map(|row| (2, row)), "values are not rotated");
    }

    #[test]
    fn rows_of_gate_and_input_alternate_in_fours() {
        let order = Order::Gated { n_inner: 6, one_source: false };
        let rows: Vec<_> = (0..16).map(|row| order.source(row)).collect();
        let at = |source, row| Some((source, row));
        let first = [at(0, 0), at(0, 1), at(0, 2), at(0, 3), at(1, 0), at(1, 1), at(1, 2), at(1, 3)];
        assert_eq!(rows[..8], first);
        assert_eq!(rows[8..], [at(0, 4), at(0, 5), None, None, at(1, 4), at(1, 5), None, None]);
    }
}
