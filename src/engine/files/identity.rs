//! The identity of a model: hashes that distinguish it from other models.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ModelFiles, TOKENIZER_BYTES_MAX, TokenizerSource};
use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::model::Decoder;

/// Hashes of a model's weights, configuration and vocabulary. Models with equal identities
/// compute the same keys and values from the same token ids, and their ids mean the same
/// text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::engine) struct Identity {
    /// SHA-256 of the weights: [`crate::checkpoint::Checkpoint::sha256`].
    weights_sha256: String,
    /// SHA-256 of tokenizer.json; `None` without one.
    tokenizer_sha256: Option<String>,
    /// SHA-256 of the model's description as JSON: the parts of config.json that affect
    /// keys and values.
    config_sha256: String,
}

impl Identity {
    /// How `other` differs; `None` if it is the same model.
    pub(in crate::engine) fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.config_sha256 != other.config_sha256 {
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
    /// The model's identity. The first call reads all weights.
    ///
    /// # Errors
    /// As [`crate::checkpoint::Checkpoint::sha256`] and [`read_bounded`].
    pub(in crate::engine) fn identity(&self) -> Result<&Identity> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let weights_sha256 = self.checkpoint.sha256()?;
        let (config_sha256, tokenizer_sha256) = (self.config_sha256()?, self.tokenizer_sha256()?);
        Ok(self.identity.get_or_init(|| Identity { weights_sha256, tokenizer_sha256, config_sha256 }))
    }

    /// How a model of another identity differs from this one, as far as the small files
    /// tell: the weights are not read.
    ///
    /// # Errors
    /// As [`read_bounded`].
    pub(in crate::engine) fn difference_in_small_files(
        &self,
        other: &Identity,
    ) -> Result<Option<&'static str>> {
        let weights_sha256 = other.weights_sha256.clone();
        let (config_sha256, tokenizer_sha256) = (self.config_sha256()?, self.tokenizer_sha256()?);
        Ok(Identity { weights_sha256, tokenizer_sha256, config_sha256 }.difference(other))
    }

    fn config_sha256(&self) -> Result<String> {
        Ok(hex_digest(&description(&self.config)?))
    }

    fn tokenizer_sha256(&self) -> Result<Option<String>> {
        Ok(match &self.tokenizer_source {
            TokenizerSource::File(path) if path.exists() => {
                Some(hex_digest(&read_bounded(path, TOKENIZER_BYTES_MAX)?))
            }
            TokenizerSource::File(_) | TokenizerSource::Absent => None,
            #[cfg(feature = "demo-model")]
            TokenizerSource::Static(bytes) => Some(hex_digest(bytes)),
        })
    }
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The model's description without the ids that begin and end texts, which affect no
/// computed number.
fn description(config: &Decoder) -> Result<Vec<u8>> {
    let computed = Decoder { bos_token_id: None, eos_token_ids: Vec::new(), ..config.clone() };
    serde_json::to_vec(&computed)
        .map_err(|error| Error::input(format!("the model's description as JSON: {error}")))
}
