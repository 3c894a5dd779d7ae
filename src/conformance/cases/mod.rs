//! The cases of every operation.
//!
//! A case is an operation with its shape, types and flags. Inputs are random with a fixed
//! seed and padded as described at [`crate::tensor::Axis`]. f16 weights and caches are
//! rounded before the reference reads them, so errors come only from f32 arithmetic.

mod activation;
mod attention;
mod cost;
mod data;
mod gated;
mod kv_append;
mod matmul;
mod norm;
mod norm_gemv;
mod paged;
mod qk_norm;
mod reduce;
mod rotary;
mod rows;
mod sample;
mod score;

use std::fmt;

use super::output::{Outcome, Prepared};
use crate::error::Result;
use crate::gpu::{Capabilities, Gpu};
use crate::kernels::{Candidate, Choices, Op, gemm, gemv};

pub use attention::AttentionCase;
pub use cost::Cost;
pub use gated::GatedCase;
pub use kv_append::KvAppendCase;
pub use matmul::{MatmulCase, MatmulInput, MatmulOutput};
pub use norm::{NormCase, NormInput};
pub use norm_gemv::{AfterProjection, NormGemvCase};
pub use paged::KvShape;
pub use qk_norm::QkNormCase;
pub use reduce::ReduceCase;
pub use rotary::RotaryShape;
pub use rows::{ArgmaxCase, ArgmaxInput, EmbeddingCase};
pub use sample::{SampleCase, SampleInput};
pub use score::{ScoreCase, ScoreInput};

/// An operation with its shape, types and flags.
#[derive(Clone, Debug, PartialEq)]
pub enum Case {
    /// Product of a matrix and one or a few rows.
    Gemv(MatmulCase),
    /// Norm of one or a few rows, followed by the product with a matrix.
    NormGemv(NormGemvCase),
    /// Product of a matrix and many rows.
    Gemm(MatmulCase),
    /// Product of gate and up in a gated MLP.
    Gated(GatedCase),
    /// Norm of rows.
    Norm(NormCase),
    /// RMS normalization and rotation of the heads of q and k.
    QkNorm(QkNormCase),
    /// Token and position embedding.
    Embedding(EmbeddingCase),
    /// Index of the largest logit.
    Argmax(ArgmaxCase),
    /// Choice of the next token.
    Sample(SampleCase),
    /// Log-probabilities of tokens.
    Score(ScoreCase),
    /// Append to the KV cache.
    KvAppend(KvAppendCase),
    /// Causal attention of consecutive rows of one sequence.
    AttentionPrefill(AttentionCase),
    /// Causal attention of packed rows of several sequences.
    AttentionPacked(AttentionCase),
    /// Attention of single rows, one per sequence.
    AttentionDecode(AttentionCase),
    /// Merge of partial attention results.
    AttentionReduce(ReduceCase),
}

impl Case {
    /// Uploads the inputs of the case and records its kernels with the implementations in
    /// `choices`.
    ///
    /// # Errors
    /// The errors of [`Gpu::allocate`] and [`crate::gpu::Recorder::dispatch`].
    pub(crate) fn prepare(&self, gpu: &Gpu, choices: &Choices) -> Result<Prepared> {
        let name = self.to_string();
        match self {
            Case::Gemv(case) => {
                let batch = gemv::batch_for(case.m);
                let candidate = choices.get(Op::Gemv);
                case.prepare(gpu, candidate, name, |r, _, op| gemv::record(r, candidate, batch, op))
            }
            Case::NormGemv(case) => case.prepare(gpu, choices, name),
            Case::Gemm(case) => {
                let candidate = choices.get(Op::Gemm);
                case.prepare(gpu, candidate, name, |r, scratch, op| gemm::record(r, candidate, scratch, op))
            }
            Case::Gated(case) => case.prepare(gpu, name),
            Case::Norm(case) => case.prepare(gpu, choices, name),
            Case::QkNorm(case) => case.prepare(gpu, name),
            Case::Embedding(case) => case.prepare(gpu, name),
            Case::Argmax(case) => case.prepare(gpu, name),
            Case::Sample(case) => case.prepare(gpu, name),
            Case::Score(case) => case.prepare(gpu, choices, name),
            Case::KvAppend(case) => case.prepare(gpu, name),
            Case::AttentionPrefill(case) => case.prepare_prefill(gpu, choices, name),
            Case::AttentionPacked(case) => case.prepare_packed(gpu, choices, name),
            Case::AttentionDecode(case) => case.prepare_decode(gpu, choices, name),
            Case::AttentionReduce(case) => case.prepare(gpu, name),
        }
    }

    /// Returns the operation, or `None` if it has only one implementation.
    #[must_use]
    pub fn op(&self) -> Option<Op> {
        match self {
            Case::Gemv(_) => Some(Op::Gemv),
            Case::NormGemv(case) => Some(case.norm.gemv_op()),
            Case::Gemm(_) => Some(Op::Gemm),
            Case::Norm(case) => Some(case.form.op()),
            Case::AttentionPrefill(_) | Case::AttentionPacked(_) => Some(Op::AttentionPrefill),
            Case::AttentionDecode(_) => Some(Op::AttentionDecode),
            Case::Score(_) => Some(Op::Score),
            Case::Gated(_)
            | Case::Embedding(_)
            | Case::QkNorm(_)
            | Case::Argmax(_)
            | Case::KvAppend(_)
            | Case::AttentionReduce(_)
            | Case::Sample(_) => None,
        }
    }

    /// Returns the implementations of the operation that a device can run. The list is
    /// empty if the operation has only one implementation.
    #[must_use]
    pub fn candidates(&self, device: &Capabilities) -> Vec<&'static Candidate> {
        let all = self.op().map_or(&[][..], Op::candidates);
        all.iter().filter(|candidate| candidate.runs_on(device)).collect()
    }

    /// Runs the case once and compares its outputs with the reference.
    ///
    /// # Errors
    /// The errors of [`Case::prepare`] and [`Prepared::check`].
    pub(crate) fn check(&self, gpu: &Gpu, choices: &Choices) -> Result<Outcome> {
        self.prepare(gpu, choices)?.check(gpu)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Gemv(case) => write!(f, "gemv {case}"),
            Case::NormGemv(case) => write!(f, "{} {case}", case.norm.gemv_op()),
            Case::Gemm(case) => write!(f, "gemm {case}"),
            Case::Gated(case) => write!(f, "gated {case}"),
            Case::Norm(case) => write!(f, "{} {case}", case.form.op()),
            Case::QkNorm(case) => write!(f, "qk_norm {case}"),
            Case::Embedding(case) => write!(f, "embedding {case}"),
            Case::Argmax(case) => write!(f, "argmax {case}"),
            Case::Sample(case) => write!(f, "sample {case}"),
            Case::Score(case) => write!(f, "score {case}"),
            Case::KvAppend(case) => write!(f, "kv_append {case}"),
            Case::AttentionPrefill(case) => write!(f, "attention_prefill {case}"),
            Case::AttentionPacked(case) => write!(f, "attention_packed {case}"),
            Case::AttentionDecode(case) => write!(f, "attention_decode {case}"),
            Case::AttentionReduce(case) => write!(f, "attention_reduce {case}"),
        }
    }
}
