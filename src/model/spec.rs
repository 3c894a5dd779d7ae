//! What a checkpoint must hold, and where its rows go on the GPU.

use super::rope::Pairing;
use crate::kernels::gated_row;
use crate::tensor::{Axis, pad_row};

/// How a tensor lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[n]`
    Vector,
    /// `[rows, columns]`, as on the GPU.
    RowMajor,
    /// `[columns, rows]`: GPT-2's Conv1D, turned while loading.
    Transposed,
}

/// What a tensor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A matrix.
    Matrix,
    /// A matrix whose outputs are added to the residual stream.
    Residual,
    /// A norm's factors.
    Norm,
    /// What is added: a bias.
    Bias,
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name without the architecture's prefix.
    pub name: String,
    /// Rows that are taken; the elements of a vector.
    pub rows: usize,
    /// Rows in front of them that are not: OPT's positions begin at 2.
    pub skipped: usize,
}

impl Source {
    /// All rows of a tensor.
    pub fn new(name: impl Into<String>, rows: usize) -> Self {
        Source { name: name.into(), rows, skipped: 0 }
    }
}

/// In which order the rows of the sources stand on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One source, as its axis says.
    Axis(Axis),
    /// Attention heads: all of q, then of k, then of v.
    Heads(Heads),
    /// The gate and the input of a gated MLP, in the order of [`gated_row`].
    Gated {
        /// Rows of each.
        n_inner: usize,
        /// Whether one source holds the gate, then the other.
        one_source: bool,
    },
}

/// Heads of q, k and v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of q.
    pub n_head: usize,
    /// Heads of k, and of v; 0 where there is nothing but q.
    pub n_kv_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// How the file orders the rotated elements of the heads of q and k.
    pub pairing: Pairing,
    /// How the sources hold the heads.
    pub sources: HeadSources,
}

/// How the heads of q, k and v are distributed over tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSources {
    /// A tensor each.
    Separate,
    /// One tensor: all of q, then of k, then of v.
    Blocks,
    /// One tensor: q, k and v of the first head, then of the second.
    Interleaved,
}

impl Heads {
    /// The axis of q, k and v.
    #[must_use]
    pub const fn axis(&self) -> Axis {
        Axis::grouped(self.n_head + 2 * self.n_kv_head, self.head_dim)
    }

    /// The source and its row of element `e` of head `head`, counted over q, k and v.
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
                // As many heads of k and v as of q.
                let (part, head) = (head / q, head % q);
                (0, (head * 3 + part) * dim + e)
            }
        }
    }
}

impl Order {
    /// Rows on the GPU, padding included.
    #[must_use]
    pub const fn padded_len(&self) -> usize {
        match self {
            Order::Axis(axis) => axis.padded_len(),
            Order::Heads(heads) => heads.axis().padded_len(),
            Order::Gated { n_inner, .. } => 2 * pad_row(*n_inner),
        }
    }

    /// The source and its row that stand in a row on the GPU; `None` in the padding.
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

/// A matrix or a vector on the GPU, and the tensors that it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// What it is for.
    pub role: Role,
    /// The tensors, of one layout and width.
    pub sources: Vec<Source>,
    /// How they lie in the file.
    pub layout: Layout,
    /// Output features; the elements of a vector.
    pub rows: Order,
    /// Input features; a single one for a vector.
    pub columns: Axis,
    /// Whether 1 is added to each element: Gemma's norms hold the distance to it.
    pub plus_one: bool,
}

impl TensorSpec {
    /// A vector from one tensor.
    pub(super) fn vector(role: Role, name: impl Into<String>, axis: Axis) -> Self {
        Self::vectors(role, vec![Source::new(name, axis.len())], Order::Axis(axis))
    }

    /// A vector from several tensors.
    pub(super) fn vectors(role: Role, sources: Vec<Source>, rows: Order) -> Self {
        let columns = Axis::plain(1);
        TensorSpec { role, sources, layout: Layout::Vector, rows, columns, plus_one: false }
    }

    /// A matrix from one tensor `[rows, columns]`.
    pub(super) fn matrix(name: impl Into<String>, rows: Axis, columns: Axis) -> Self {
        let (sources, rows) = (vec![Source::new(name, rows.len())], Order::Axis(rows));
        TensorSpec { role: Role::Matrix, sources, layout: Layout::RowMajor, rows, columns, plus_one: false }
    }

    /// What names it in labels and messages: the first tensor.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.sources[0].name
    }

    /// The shape of one of its tensors in the file.
    #[must_use]
    pub fn shape(&self, source: &Source) -> Vec<usize> {
        let rows = source.rows + source.skipped;
        match self.layout {
            Layout::Vector => vec![rows],
            Layout::RowMajor => vec![rows, self.columns.len()],
            Layout::Transposed => vec![self.columns.len(), rows],
        }
    }

    /// Elements of its tensors, those that are skipped included.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        let elems = |source| self.shape(source).iter().map(|&n| n as u64).product::<u64>();
        self.sources.iter().map(elems).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of every source stands in one row of the GPU.
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
    fn orders_take_every_row_of_their_sources_once() {
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
    fn gate_and_input_stand_four_by_four() {
        let order = Order::Gated { n_inner: 6, one_source: false };
        let rows: Vec<_> = (0..16).map(|row| order.source(row)).collect();
        let at = |source, row| Some((source, row));
        let first = [at(0, 0), at(0, 1), at(0, 2), at(0, 3), at(1, 0), at(1, 1), at(1, 2), at(1, 3)];
        assert_eq!(rows[..8], first);
        assert_eq!(rows[8..], [at(0, 4), at(0, 5), None, None, at(1, 4), at(1, 5), None, None]);
    }
}
