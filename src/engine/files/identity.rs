//! What tells a model from others.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ModelFiles, TOKENIZER_BYTES_MAX, TokenizerSource};
use crate::checkpoint::read_bounded;
use crate::error::Result;
use crate::model::Gpt2Config;

/// A model's weights, arithmetic and vocabulary: equal ones compute the same keys and
/// values from the same token ids, and these mean the same texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::engine) struct Identity {
    /// As [`crate::checkpoint::Checkpoint::sha256`].
    weights_sha256: String,
    /// Of tokenizer.json; `None` without one.
    tokenizer_sha256: Option<String>,
    config: Shape,
}

/// What of config.json changes keys and values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    vocab_size: u64,
    n_positions: u64,
    n_embd: u64,
    n_layer: u64,
    n_head: u64,
    n_inner: u64,
    activation: String,
    layer_norm_epsilon_bits: u32,
    scale_attn_weights: bool,
    scale_attn_by_inverse_layer_idx: bool,
}

impl Shape {
    fn new(config: &Gpt2Config) -> Self {
        Shape {
            vocab_size: config.vocab_size as u64,
            n_positions: config.n_positions as u64,
            n_embd: config.n_embd as u64,
            n_layer: config.n_layer as u64,
            n_head: config.n_head as u64,
            n_inner: config.n_inner as u64,
            activation: config.activation.name().to_owned(),
            layer_norm_epsilon_bits: config.layer_norm_epsilon.to_bits(),
            scale_attn_weights: config.scale_attn_weights,
            scale_attn_by_inverse_layer_idx: config.scale_attn_by_inverse_layer_idx,
        }
    }
}

impl Identity {
    /// In what another model differs; `None` where it does not.
    pub(in crate::engine) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.config != other.config {
            Some("its config.json differs")
        } else if self.weights_sha256 != other.weights_sha256 {
            Some("its weights differ")
        } else if self.tokenizer_sha256 != other.tokenizer_sha256 {
            Some("its tokenizer.json differs")
        } else {
            None
        }
    }
}

impl ModelFiles {
    /// What tells this model from others. The first call reads all weights.
    ///
    /// # Errors
    /// As [`crate::checkpoint::Checkpoint::sha256`] and [`read_bounded`].
    pub(in crate::engine) fn identity(&self) -> Result<&Identity> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let digest = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let tokenizer_sha256 = match &self.tokenizer_source {
            TokenizerSource::File(path) if path.exists() => {
                Some(digest(&read_bounded(path, TOKENIZER_BYTES_MAX)?))
            }
            TokenizerSource::File(_) | TokenizerSource::Absent => None,
            #[cfg(feature = "demo-model")]
            TokenizerSource::Static(bytes) => Some(digest(bytes)),
        };
        let weights_sha256 = self.checkpoint.sha256()?;
        let config = Shape::new(&self.config);
        Ok(self.identity.get_or_init(|| Identity { weights_sha256, tokenizer_sha256, config }))
    }
}
