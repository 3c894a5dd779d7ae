//! Gemma (Mesnard et al. 2024) and Gemma 2 (Riviere et al. 2024): `GemmaForCausalLM`,
//! `Gemma2ForCausalLM`. They use Llama's block with scaled embeddings and norm weights
//! stored minus 1. Gemma 2 adds norms after attention and MLP, caps, and a window in
//! every other layer.

use std::ops::RangeInclusive;

use super::fields::{activation, flag, layer_types, soft_cap, window};
use super::llama::{self, Biases, Defaults};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Decoder, Norms, Residual};

/// The defaults of `GemmaConfig`.
pub(super) const DEFAULTS: Defaults =
    Defaults { n_kv_head: Some(16), head_dim: Some(256), tied: true, ..Defaults::LLAMA };

pub(super) fn gemma(json: &ConfigJson) -> Result<Decoder> {
    like(json, "gemma", DEFAULTS)
}

pub(super) fn gemma2(json: &ConfigJson) -> Result<Decoder> {
    // The field is required because its default differs between transformers 4.46 and
    // 4.57.
    json.usize("num_key_value_heads", 1..=usize::MAX)?;
    let scalar = json.f32("query_pre_attn_scalar", QUERY_SCALARS)?;
    let mut decoder = like(json, "gemma2", DEFAULTS)?;
    decoder.residual = SANDWICH;
    decoder.head.soft_cap = soft_cap(json, "final_logit_softcapping", Some(30.0))?;
    let attention = &mut decoder.attention;
    attention.soft_cap = soft_cap(json, "attn_logit_softcapping", Some(50.0))?;
    attention.scale = query_scale(scalar);
    let types = layer_types(json, decoder.n_layer)?;
    let windowed = |layer: usize| types.as_ref().map_or(layer.is_multiple_of(2), |types| types[layer]);
    decoder.attention = decoder.attention.windows(window(json, "sliding_window", Some(4096))?, windowed);
    Ok(decoder)
}

/// Norms before and after attention and MLP.
pub(super) const SANDWICH: Residual = Residual::Sandwich {
    attention: ["input_layernorm", "post_attention_layernorm"],
    mlp: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
};

/// Reads the parts that all Gemma models share.
pub(super) fn like(json: &ConfigJson, architecture: &'static str, defaults: Defaults) -> Result<Decoder> {
    let bias = flag(json, "attention_bias", false)?;
    let mut decoder = llama::like(json, architecture, Biases { qkv: bias, out: bias, mlp: false }, defaults)?;
    // Gemma's hidden_act is an older name that transformers ignores.
    decoder.mlp.activation = activation(json, "hidden_activation", Activation::GeluTanh)?;
    decoder.norms = Norms { plus_one: true, ..decoder.norms };
    decoder.embedding.scale = (decoder.n_embd as f32).sqrt();
    Ok(decoder)
}

/// Values that `query_pre_attn_scalar` may have.
pub(super) const QUERY_SCALARS: RangeInclusive<f32> = 1e-3..=1e6;

/// Returns the factor on q·k for a `query_pre_attn_scalar`.
pub(super) fn query_scale(scalar: f32) -> f32 {
    1.0 / scalar.sqrt()
}
