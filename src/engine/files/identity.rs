//! The identity of a model: hashes that distinguish it from other models.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ModelFiles, TOKENIZER, TOKENIZER_BYTES_MAX};
use crate::error::{Error, Result};
use crate::files::hex;
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
    /// The SHA-256 of the weights in hexadecimal, as `sha256sum` prints it for
    /// `model.safetensors`. For several shards it is the digest of the lines that
    /// `sha256sum` prints for them, in name order and without the names. The first call
    /// reads all weights.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] if a file cannot be read or has become shorter.
    pub fn sha256(&self) -> Result<&str> {
        if let Some(digest) = self.weights_sha256.get() {
            return Ok(digest);
        }
        let digest = self.checkpoint.sha256()?;
        Ok(self.weights_sha256.get_or_init(|| digest))
    }

    /// The model's identity. The first call reads all weights.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] if a file cannot be read or has become shorter.
    pub(in crate::engine) fn identity(&self) -> Result<&Identity> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let weights_sha256 = self.sha256()?.to_owned();
        let (config_sha256, tokenizer_sha256) = (self.config_sha256()?, self.tokenizer_sha256()?);
        Ok(self.identity.get_or_init(|| Identity { weights_sha256, tokenizer_sha256, config_sha256 }))
    }

    /// Returns how a model of another identity differs from this one, according to the
    /// small files. The weights are not read.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Model`] if a file cannot be read.
    pub(in crate::engine) fn difference_in_small_files(
        &self,
        other: &Identity,
    ) -> Result<Option<&'static str>> {
        let weights_sha256 = other.weights_sha256.clone();
        let (config_sha256, tokenizer_sha256) = (self.config_sha256()?, self.tokenizer_sha256()?);
        Ok(Identity { weights_sha256, tokenizer_sha256, config_sha256 }.difference(other))
    }

    fn config_sha256(&self) -> Result<String> {
        Ok(hex(&Sha256::digest(description(&self.config)?)))
    }

    fn tokenizer_sha256(&self) -> Result<Option<String>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let bytes = folder.read_if_present(TOKENIZER, TOKENIZER_BYTES_MAX)?;
        Ok(bytes.map(|bytes| hex(&Sha256::digest(bytes))))
    }
}

/// The model's description without the ids that begin and end texts, which affect no
/// computed number.
fn description(config: &Decoder) -> Result<Vec<u8>> {
    let computed = Decoder { bos_token_id: None, eos_token_ids: Vec::new(), ..config.clone() };
    serde_json::to_vec(&computed)
        .map_err(|error| Error::input(format!("the model's description as JSON: {error}")))
}
