//! The search for the fastest kernel candidates of a model on a device.
//!
//! [`run`] times the candidates that pass the canary, in turn, in the passes of a loaded
//! model. [`cache`] stores the result in a file. Models that are loaded later take their
//! kernels from this file.

pub mod cache;
mod search;
mod statistics;

pub use search::{Budget, OpTuning, Progress, Timed, Tuning, run, run_among};
pub use statistics::quantile;

use crate::conformance::Shapes;
use crate::model::{Decoder, ModelOptions};

/// The sizes of a model that kernels are tuned for.
#[must_use]
pub fn tuned_shapes(config: &Decoder, options: &ModelOptions) -> Shapes {
    Shapes {
        n_layer: config.n_layer,
        n_embd: config.n_embd,
        n_head: config.attention.n_head,
        n_kv_head: config.attention.n_kv_head,
        head_dim: config.attention.head_dim,
        n_inner: config.mlp.n_inner,
        vocab_size: config.vocab_size,
        n_positions: config.n_positions,
        chunk: options.prefill_chunk.clamp(1, config.n_positions.max(1)),
        norm: config.norms.kind,
        gated: config.is_gated(),
        rotary: !config.attention.ropes.is_empty(),
        dtype: options.dtype,
        kv_dtype: options.kv_dtype,
    }
}
