//! Qwen2 and 2.5 (Yang et al. 2024), Qwen3 (Yang et al. 2025): `Qwen2ForCausalLM`,
//! `Qwen3ForCausalLM`. They use Llama's block. Qwen2 adds biases of q, k and v; Qwen3
//! adds norms of q and k heads.

use super::fields::{flag, layer_types, window};
use super::llama::{self, Biases, Defaults};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::model::decoder::Decoder;

/// The defaults of `Qwen2Config`.
const QWEN2: Defaults = Defaults { n_kv_head: Some(32), ..Defaults::LLAMA };
/// The defaults of `Qwen3Config`.
const QWEN3: Defaults = Defaults { head_dim: Some(128), ..QWEN2 };

pub(super) fn qwen2(json: &ConfigJson) -> Result<Decoder> {
    windowed(json, llama::like(json, "qwen2", Biases { qkv: true, ..Biases::default() }, QWEN2)?)
}

pub(super) fn qwen3(json: &ConfigJson) -> Result<Decoder> {
    let bias = flag(json, "attention_bias", false)?;
    let mut decoder = llama::like(json, "qwen3", Biases { qkv: bias, out: bias, mlp: false }, QWEN3)?;
    decoder.attention.qk_norm = Some(["self_attn.q_norm", "self_attn.k_norm"]);
    windowed(json, decoder)
}

/// Applies `use_sliding_window`. The layers that `layer_types` names get a window;
/// without that list, the layers from `max_window_layers` on.
fn windowed(json: &ConfigJson, mut decoder: Decoder) -> Result<Decoder> {
    let window = window(json, "sliding_window", Some(4096))?;
    let first = json.optional_usize("max_window_layers", 0..=usize::MAX)?.unwrap_or(28);
    let types = layer_types(json, decoder.n_layer)?;
    if flag(json, "use_sliding_window", false)? {
        let windowed = |layer: usize| types.as_ref().map_or(layer >= first, |types| types[layer]);
        decoder.attention = decoder.attention.windows(window, windowed);
    }
    Ok(decoder)
}
