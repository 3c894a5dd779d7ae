//! The minimum bytes and operations of a case. GB/s, GFLOP/s and the roofline are
//! computed from them.

use std::ops::Range;

use super::{
    AfterProjection, ArgmaxCase, AttentionCase, Case, EmbeddingCase, GatedCase, KvAppendCase, MatmulCase,
    NormCase, NormGemvCase, QkNormCase, ReduceCase, SampleCase, ScoreCase,
};
use crate::kernels::NormForm;

/// Minimum work of an operation, from its shape. Padding, scratch and repeated reads do
/// not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of the inputs, read once, and of the outputs, written once.
    pub bytes: u64,
    /// Floating-point operations of the sums; a multiply-add counts as two. Comparisons,
    /// exp and activation functions do not count.
    pub flops: u64,
}

/// Bytes of an f32, the type of activations, biases and norms.
const F32: usize = 4;

impl Case {
    /// Returns the minimum bytes and floating-point operations of the case.
    #[must_use]
    pub fn cost(&self) -> Cost {
        let (bytes, flops) = match self {
            Case::Gemv(case) | Case::Gemm(case) => matmul(case),
            Case::NormGemv(case) => norm_gemv(case),
            // Gate and up are read, and one output is written.
            Case::Gated(GatedCase { n_rows, n, .. }) => (3 * n_rows * n * F32, n_rows * n),
            Case::Norm(case) => norm(case),
            Case::QkNorm(case) => qk_norm(case),
            Case::Embedding(case) => embedding(case),
            Case::Argmax(ArgmaxCase { n, .. }) | Case::Sample(SampleCase { n, .. }) => (n * F32, 0),
            // Each row also has one target and five result words. Its sum of weights has
            // one term per logit.
            Case::Score(ScoreCase { n_rows, n, .. }) => (n_rows * (n + 6) * F32, n_rows * n),
            Case::KvAppend(case) => kv_append(case),
            Case::AttentionPrefill(case) => attention(case, case.chunk()),
            Case::AttentionPacked(case) => attention(case, case.packed()),
            Case::AttentionDecode(case) => attention(case, case.batch()),
            Case::AttentionReduce(case) => reduce(case),
        };
        Cost { bytes: bytes as u64, flops: flops as u64 }
    }
}

fn matmul(case: &MatmulCase) -> (usize, usize) {
    let (m, n, k) = (case.m, case.n_weight_rows(), case.k.len());
    let written = m * case.n.len() * F32;
    let read = n * k * case.dtype.size_bytes()
        + m * k * F32
        + if case.bias { n * F32 } else { 0 }
        + if case.accumulate { written } else { 0 };
    (read + written, 2 * m * n * k)
}

/// Returns the operations per element. A layer norm has mean (1), variance (3), scale and
/// shift (4). An RMS norm has mean of the squares (2) and scale (2).
fn normalizing(form: NormForm) -> usize {
    match form {
        NormForm::Layer => 8,
        NormForm::Rms => 4,
    }
}

/// Counts the norm, and the addition if there is one.
fn norm(case: &NormCase) -> (usize, usize) {
    let elems = case.n_rows * case.n;
    let added = if case.accumulate { elems } else { 0 };
    let bytes = (2 * elems + added + case.form.n_vectors() * case.n) * F32;
    (bytes, normalizing(case.form) * elems + added)
}

/// Counts the norm, three operations per rotated element, and one table row per position.
fn qk_norm(case: &QkNormCase) -> (usize, usize) {
    let heads = case.n_rows * (case.n_head + case.n_kv_head);
    let (elems, rotated) = (heads * case.head_dim, case.rotated.unwrap_or(0));
    let read = elems + 2 * case.head_dim + case.n_rows * rotated;
    ((read + elems) * F32, 4 * elems + 3 * heads * rotated)
}

fn embedding(case: &EmbeddingCase) -> (usize, usize) {
    let elems = case.n_tokens * case.n_embd;
    let read = if case.wpe { 2 } else { 1 };
    (elems * (read * case.dtype.size_bytes() + F32), elems)
}

fn kv_append(case: &KvAppendCase) -> (usize, usize) {
    let elems = 2 * case.n_rows * case.kv.n_kv_head * case.kv.head_dim;
    (elems * (F32 + case.kv.dtype.size_bytes()), 0)
}

/// Counts, for each row and every key that it sees, one product for the score and one for
/// the value. Keys that several rows see count once.
fn attention(case: &AttentionCase, seen: Vec<Range<usize>>) -> (usize, usize) {
    let (rows, width) = (case.n_rows, case.kv.n_head * case.kv.head_dim);
    let seen: Vec<_> = seen.into_iter().map(|positions| case.visible(&positions)).collect();
    let pairs: usize = seen.iter().map(Range::len).sum();
    let first = seen.iter().map(|seen| seen.start).min().unwrap_or(0);
    let end = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
    let cached = 2 * (end - first) * case.kv.n_kv_head * case.kv.head_dim * case.kv.dtype.size_bytes();
    (cached + 2 * rows * width * F32, 4 * pairs * width)
}

/// Counts the norm's input, weight and bias (an RMS norm has no bias), the projection's
/// weights, bias and output, and k and v in the cache's type.
fn norm_gemv(case: &NormGemvCase) -> (usize, usize) {
    let NormGemvCase { norm, m, n_embd, dtype, after, .. } = *case;
    let scales = norm.n_vectors();
    let (n, cached) = match after {
        AfterProjection::Activation(_, n) => (n, 0),
        AfterProjection::Gated(_, n) => (2 * n, 0),
        AfterProjection::Cache(kv) | AfterProjection::Planted(kv, _) | AfterProjection::Rotated(kv, _) => {
            let cached = 2 * kv.n_kv_head * kv.head_dim;
            (kv.n_head * kv.head_dim + cached, m * cached * (F32 - kv.dtype.size_bytes()))
        }
    };
    let read = (m * n_embd + scales * n_embd + n) * F32 + n * n_embd * dtype.size_bytes();
    let written = if matches!(after, AfterProjection::Gated(..)) { n / 2 } else { n };
    (read + m * written * F32 - cached, 2 * m * n * n_embd + normalizing(norm) * m * n_embd)
}

/// Counts the scaling and the addition of the sums of each split.
fn reduce(case: &ReduceCase) -> (usize, usize) {
    let splits = case.n_splits();
    // A single split writes the output directly.
    if splits < 2 {
        return (0, 0);
    }
    let partial = case.n_head * splits * (case.head_dim + 2) * F32;
    (partial + case.n_head * case.head_dim * F32, 2 * case.n_head * splits * case.head_dim)
}

#[cfg(test)]
mod tests {
    use super::super::{ArgmaxInput, KvShape, ScoreInput};
    use super::*;
    use crate::kernels::Activation;
    use crate::tensor::{Axis, DType};

    fn cost(case: Case) -> (u64, u64) {
        let Cost { bytes, flops } = case.cost();
        (bytes, flops)
    }

    #[test]
    fn costs_match_a_hand_calculation() {
        // 3072 x 768 f16 elements, 768 and 3072 f32 elements; 2 x 3072 x 768 operations.
        let gemv = MatmulCase::plain(1, 3072, 768, DType::F16);
        assert_eq!(cost(Case::Gemv(gemv.clone())), (4_718_592 + 3072 + 12_288, 4_718_592));
        // The bias and the output are read as well.
        let residual = MatmulCase { bias: true, accumulate: true, ..gemv };
        assert_eq!(cost(Case::Gemv(residual)).0, 4_718_592 + 3072 + 3 * 12_288);
        // Padding does not count: 75 groups of 3 are 225 features.
        let grouped = MatmulCase { n: Axis::grouped(75, 3), ..MatmulCase::plain(2, 1, 10, DType::F32) };
        assert_eq!(cost(Case::Gemm(grouped)), ((2250 + 20 + 450) * 4, 9000));
        // Gate and up are rows of weights; the output is their product.
        let gated = MatmulCase::gated(1, 10, 6, DType::F32, Activation::Silu);
        assert_eq!(cost(Case::Gemv(gated)), ((120 + 6 + 10) * 4, 240));
        let gated = GatedCase { n_rows: 2, n: 10, activation: Activation::Silu };
        assert_eq!(cost(Case::Gated(gated)), (240, 20));
        let norm = NormCase { first_row: 5, ..NormCase::rows(NormForm::Layer, 3, 10) };
        assert_eq!(cost(Case::Norm(norm.clone())), (320, 240));
        let norm = NormCase { form: NormForm::Rms, ..norm };
        assert_eq!(cost(Case::Norm(norm.clone())), ((30 + 10 + 30) * 4, 120));
        assert_eq!(cost(Case::Norm(NormCase { accumulate: true, ..norm })), ((60 + 10 + 30) * 4, 150));
        // 2 rows of 3 heads of 8 elements, of which 4 are rotated.
        let heads = QkNormCase { rotated: Some(4), ..QkNormCase::usual(2, 2, 1, 8) };
        assert_eq!(cost(Case::QkNorm(heads)), ((48 + 16 + 8 + 48) * 4, 4 * 48 + 3 * 6 * 4));
        assert_eq!(cost(Case::Argmax(ArgmaxCase { n: 100, input: ArgmaxInput::Random })), (400, 0));
        let score = ScoreCase { n_rows: 2, n: 100, input: ScoreInput::Random };
        assert_eq!(cost(Case::Score(score)), (848, 200));
        let embedding = EmbeddingCase::usual(2, 50, 10, DType::F16);
        assert_eq!(cost(Case::Embedding(embedding)), (160, 20));
        let kv = KvShape { n_head: 2, n_kv_head: 2, head_dim: 8, dtype: DType::F16, n_slabs: 1 };
        let append = KvAppendCase { kv, position: 7, n_rows: 3, batch: false, planted: None };
        assert_eq!(cost(Case::KvAppend(append)), (96 * 6, 0));
        // The two rows from position 3 on see 4 and 5 keys; 5 positions are cached.
        let attention = AttentionCase::plain(kv, 3, 2);
        assert_eq!(
            cost(Case::AttentionPrefill(attention.clone())),
            (2 * 5 * 16 * 2 + 2 * 2 * 16 * 4, 4 * 9 * 16)
        );
        // As sequences of a batch, both rows see 4 positions.
        assert_eq!(cost(Case::AttentionDecode(attention)), (2 * 4 * 16 * 2 + 2 * 2 * 16 * 4, 4 * 8 * 16));
        // Four query heads share two key/value heads. With the window, each row sees 3
        // keys, from positions 1 to 4.
        let grouped =
            AttentionCase { window: Some(3), ..AttentionCase::plain(KvShape { n_head: 4, ..kv }, 3, 2) };
        assert_eq!(cost(Case::AttentionPrefill(grouped)), (2 * 4 * 16 * 2 + 2 * 2 * 32 * 4, 4 * 6 * 32));
        // 24 features of q, k and v after a norm of 10 features; k and v are stored as
        // f16.
        let projection = NormGemvCase::one_row(NormForm::Layer, 10, DType::F16, AfterProjection::Cache(kv));
        let bytes = (10 + 20 + 48) * 4 + 48 * 10 * 2 + 16 * 4 + 32 * 2;
        assert_eq!(cost(Case::NormGemv(projection.clone())), (bytes, 2 * 48 * 10 + 80));
        // An RMS norm has no bias and half of the operations.
        let projection = NormGemvCase { norm: NormForm::Rms, ..projection };
        assert_eq!(cost(Case::NormGemv(projection)), (bytes - 40, 2 * 48 * 10 + 40));
        // One key head and one value head for both query heads.
        let shared = AfterProjection::Cache(KvShape { n_kv_head: 1, ..kv });
        let projection = NormGemvCase::one_row(NormForm::Layer, 10, DType::F16, shared);
        let bytes = (10 + 20 + 32) * 4 + 32 * 10 * 2 + 16 * 4 + 16 * 2;
        assert_eq!(cost(Case::NormGemv(projection)), (bytes, 2 * 32 * 10 + 80));
        let reduce =
            ReduceCase { n_head: 2, head_dim: 8, max_splits: 4, split_keys: 16, kv_len: 41, window: None };
        assert_eq!(cost(Case::AttentionReduce(reduce.clone())), (2 * 3 * 10 * 4 + 64, 96));
        assert_eq!(cost(Case::AttentionReduce(ReduceCase { kv_len: 16, ..reduce })), (0, 0));
    }
}
