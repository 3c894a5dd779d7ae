//! Mistral (Jiang et al. 2023): `MistralForCausalLM`. Llama's block with a window.

use super::fields::window;
use super::llama::{self, Biases};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::model::decoder::Decoder;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let window = window(json, "sliding_window")?;
    let mut decoder = llama::like(json, "mistral", Biases::default())?;
    decoder.attention = decoder.attention.windows(window, |_| true);
    Ok(decoder)
}
