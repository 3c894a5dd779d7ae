//! The one list of cases, for tests and benchmarks.
//!
//! A case is an operation with its shape, types and flags. Inputs are random
//! with a fixed seed, laid out with padding as [`crate::tensor::Axis`] says;
//! weights and caches in f16 are rounded before the reference sees them, so
//! that errors come from f32 arithmetic alone.

mod attention;
mod data;
mod list;
mod matmul;
mod paged;
mod rows;
mod sample;

use std::fmt;

use super::output::{Outcome, Prepared};
use crate::error::Result;
use crate::gpu::{Gpu, Strategy};

pub use attention::{AttentionCase, KvAppendCase, KvShape, ReduceCase};
pub use list::{all, gpt2_shapes, quick};
pub use matmul::{MatmulCase, MatmulInput};
pub use rows::{ArgmaxCase, ArgmaxInput, EmbeddingCase, LayerNormCase, LayerNormInput};
pub use sample::{SampleCase, SampleInput};

/// One operation with its shape, types and flags.
#[derive(Clone, Debug, PartialEq)]
pub enum Case {
    /// Matrix times one row.
    Gemv(MatmulCase),
    /// Matrix times rows.
    Gemm(MatmulCase),
    /// Layer normalization.
    LayerNorm(LayerNormCase),
    /// Token and position embedding.
    Embedding(EmbeddingCase),
    /// Index of the largest logit.
    Argmax(ArgmaxCase),
    /// The next token.
    Sample(SampleCase),
    /// Append to the cache.
    KvAppend(KvAppendCase),
    /// Causal attention of rows.
    AttentionPrefill(AttentionCase),
    /// Attention of one row.
    AttentionDecode(AttentionCase),
    /// Merge of partial results.
    AttentionReduce(ReduceCase),
}

impl Case {
    /// Uploads the case's inputs and records its kernels.
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`crate::gpu::Recorder::dispatch`].
    pub fn prepare(&self, gpu: &Gpu, strategy: Strategy) -> Result<Prepared> {
        let name = self.to_string();
        match self {
            Case::Gemv(case) => case.prepare(gpu, strategy, name, crate::kernels::gemv::record),
            Case::Gemm(case) => case.prepare(gpu, strategy, name, crate::kernels::gemm::record),
            Case::LayerNorm(case) => case.prepare(gpu, strategy, name),
            Case::Embedding(case) => case.prepare(gpu, name),
            Case::Argmax(case) => case.prepare(gpu, name),
            Case::Sample(case) => case.prepare(gpu, name),
            Case::KvAppend(case) => case.prepare(gpu, name),
            Case::AttentionPrefill(case) => case.prepare_prefill(gpu, strategy, name),
            Case::AttentionDecode(case) => case.prepare_decode(gpu, strategy, name),
            Case::AttentionReduce(case) => case.prepare(gpu, name),
        }
    }

    /// Runs the case once and compares its outputs with the reference.
    ///
    /// # Errors
    /// As [`Case::prepare`] and [`Prepared::check`].
    pub fn check(&self, gpu: &Gpu, strategy: Strategy) -> Result<Outcome> {
        self.prepare(gpu, strategy)?.check(gpu)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Gemv(case) => write!(f, "gemv {case}"),
            Case::Gemm(case) => write!(f, "gemm {case}"),
            Case::LayerNorm(case) => write!(f, "layer_norm {case}"),
            Case::Embedding(case) => write!(f, "embedding {case}"),
            Case::Argmax(case) => write!(f, "argmax {case}"),
            Case::Sample(case) => write!(f, "sample {case}"),
            Case::KvAppend(case) => write!(f, "kv_append {case}"),
            Case::AttentionPrefill(case) => write!(f, "attention_prefill {case}"),
            Case::AttentionDecode(case) => write!(f, "attention_decode {case}"),
            Case::AttentionReduce(case) => write!(f, "attention_reduce {case}"),
        }
    }
}
