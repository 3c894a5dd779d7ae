//! The sizes that kernels are tuned for.

use serde::{Deserialize, Serialize};

use crate::kernels::{Norm, Op};
use crate::tensor::DType;

/// A model's sizes, as far as they decide which kernel is the fastest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shapes {
    /// Layers.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Heads of k and v.
    pub n_kv_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub n_inner: usize,
    /// Whether the MLP is gated.
    pub gated: bool,
    /// Whether q and k are rotated.
    pub rotary: bool,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Longest context of the model: decode is timed at the end of it, or at 1024
    /// positions.
    pub n_positions: usize,
    /// Rows of a prefill chunk.
    pub chunk: usize,
    /// The norms.
    pub norm: Norm,
    /// Type of the weights.
    pub dtype: DType,
    /// Type of the cache.
    pub kv_dtype: DType,
}

impl Shapes {
    /// Whether the model has `op`: one kind of norm, by itself and with a projection
    /// behind it.
    #[must_use]
    pub fn has(&self, op: Op) -> bool {
        match op {
            Op::LayerNorm | Op::NormGemv => self.norm == Norm::Layer,
            Op::RmsNorm | Op::RmsGemv => self.norm == Norm::Rms,
            _ => true,
        }
    }

    /// Positions that a timed decode sees.
    pub(super) fn depth(&self) -> usize {
        self.n_positions.clamp(1, 1024)
    }

    /// Rows of a timed prefill.
    pub(super) fn rows(&self) -> usize {
        self.chunk.clamp(1, self.n_positions.max(1))
    }
}
