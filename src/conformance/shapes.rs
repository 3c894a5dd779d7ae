//! The sizes for which kernels are tuned.

use serde::{Deserialize, Serialize};

use crate::kernels::{NormForm, Op};
use crate::tensor::DType;

/// The sizes of a model that decide which kernel is the fastest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shapes {
    /// Number of layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key heads, and of value heads.
    pub n_kv_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub n_inner: usize,
    /// Whether the MLP is gated.
    pub gated: bool,
    /// Whether q and k are rotated.
    pub rotary: bool,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Maximum context length of the model. Decode is timed at its end, or at 1024
    /// positions if it is longer.
    pub n_positions: usize,
    /// Rows per prefill chunk.
    pub chunk: usize,
    /// Kind of the norms.
    pub norm: NormForm,
    /// Data type of the weights.
    pub dtype: DType,
    /// Data type of the KV cache.
    pub kv_dtype: DType,
}

impl Shapes {
    /// Returns whether the model uses `op`. A model has one kind of norm, for separate
    /// norms and for norms fused with the projection after them.
    #[must_use]
    pub fn has(&self, op: Op) -> bool {
        op.norm_form().is_none_or(|form| form == self.norm)
    }
}
