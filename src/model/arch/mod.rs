//! The architectures. Each file reads a `config.json` and describes its model. Names are
//! those of transformers.

mod fields;
mod gemma;
mod gemma3;
mod gpt2;
mod gpt_bigcode;
mod gpt_neo;
mod gpt_neox;
mod gptj;
mod llama;
mod mistral;
mod opt;
mod phi;
mod phi3;
mod qwen;
mod starcoder2;
#[cfg(test)]
mod tests;

use super::decoder::Decoder;
use crate::checkpoint::ConfigJson;
use crate::error::{Error, Result};

/// A function that reads the config of an architecture.
type Read = fn(&ConfigJson) -> Result<Decoder>;

/// Every architecture, by its `model_type`.
const ARCHITECTURES: &[(&str, Read)] = &[
    ("gemma", gemma::gemma),
    ("gemma2", gemma::gemma2),
    ("gemma3_text", gemma3::decoder),
    ("gpt2", gpt2::decoder),
    ("gpt_bigcode", gpt_bigcode::decoder),
    ("gpt_neo", gpt_neo::decoder),
    ("gpt_neox", gpt_neox::decoder),
    ("gptj", gptj::decoder),
    ("llama", llama::decoder),
    ("mistral", mistral::decoder),
    ("opt", opt::decoder),
    ("phi", phi::decoder),
    ("phi3", phi3::decoder),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("starcoder2", starcoder2::decoder),
];

/// Returns the names of all architectures.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name).collect()
}

impl Decoder {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown architecture, for a value out of range, or for a
    /// field that may affect the computation and that wgpt does not support. It names the
    /// field and its value.
    pub fn from_json(json: &ConfigJson) -> Result<Self> {
        // A config without this field is a GPT-2's, because the first configs did not
        // have it.
        let read = json.one_of("model_type", ARCHITECTURES)?.unwrap_or(gpt2::decoder);
        let decoder = read(json)?.checked()?;
        match json.unread(&fields::changes_nothing) {
            None => Ok(decoder),
            Some((field, value)) => Err(Error::Config {
                field,
                value,
                expected: format!(
                    "wgpt does not know this field of a {}, which may change what the model computes; if it does \
                     not, remove it",
                    decoder.architecture
                ),
            }),
        }
    }
}
