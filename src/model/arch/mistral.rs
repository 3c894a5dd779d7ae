//! Mistral (Jiang et al. 2023): `MistralForCausalLM`. It is Llama's block with a window.

use super::fields::window;
use super::llama::{self, Biases, Defaults};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::model::decoder::Decoder;

/// The defaults of `MistralConfig`.
const DEFAULTS: Defaults = Defaults { n_kv_head: Some(8), ..Defaults::LLAMA };

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let window = window(json, "sliding_window", Some(4096))?;
    let mut decoder = llama::like(json, "mistral", Biases::default(), DEFAULTS)?;
    decoder.attention = decoder.attention.windows(window, |_| true);
    Ok(decoder)
}
