//! Phi-3 (Abdin et al. 2024): `Phi3ForCausalLM`. It uses Llama's block with one matrix
//! for q, k and v, one matrix for the MLP's gate and up projection, and a window.

use super::fields::{must_be, n_rot, window};
use super::llama::{self, Biases, Defaults};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::model::decoder::{Decoder, Linear, Qkv, Up};
use crate::model::rope::{Rope, THETA_DEFAULT};
use crate::model::spec::HeadSources;

/// The defaults of `Phi3Config`.
const DEFAULTS: Defaults = Defaults { epsilon: 1e-5, ..Defaults::LLAMA };

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "attention_bias", false, "no published Phi-3 has biases")?;
    // Without scaling the value equals the context, so the field is only marked as read.
    json.optional_usize("original_max_position_embeddings", 1..=usize::MAX)?;
    let window = window(json, "sliding_window", None)?;
    let mut decoder = llama::like(json, "phi3", Biases::default(), DEFAULTS)?;
    let n_rot = n_rot(json, "partial_rotary_factor", decoder.attention.head_dim, 1.0)?;
    let rope = Rope::from_json(json, n_rot, decoder.n_positions, THETA_DEFAULT)?;
    let mut attention = decoder.attention.windows(window, |_| true).rotary(rope);
    attention.qkv = Qkv::Fused(Linear::new("self_attn.qkv_proj", false), HeadSources::Blocks);
    decoder.attention = attention;
    decoder.mlp.up = Up::GatedFused(Linear::new("mlp.gate_up_proj", false));
    Ok(decoder)
}
