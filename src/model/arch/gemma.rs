//! Gemma (Mesnard et al. 2024) and Gemma 2 (Riviere et al. 2024): `GemmaForCausalLM`,
//! `Gemma2ForCausalLM`. Llama's block with scaled embeddings and norms that hold the
//! distance to 1; Gemma 2 with norms behind attention and MLP too, caps, and a window in
//! every other layer.

use super::fields::{activation, flag, layer_types, soft_cap, window};
use super::llama::{self, Biases};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Decoder, Norms, Residual};

pub(super) fn gemma(json: &ConfigJson) -> Result<Decoder> {
    like(json, "gemma")
}

pub(super) fn gemma2(json: &ConfigJson) -> Result<Decoder> {
    let mut decoder = like(json, "gemma2")?;
    decoder.residual = SANDWICH;
    decoder.head.soft_cap = soft_cap(json, "final_logit_softcapping")?;
    let attention = &mut decoder.attention;
    attention.soft_cap = soft_cap(json, "attn_logit_softcapping")?;
    attention.scale = query_scale(json, attention.head_dim)?;
    let types = layer_types(json, decoder.n_layer)?;
    let windowed = |layer: usize| types.as_ref().map_or(layer.is_multiple_of(2), |types| types[layer]);
    decoder.attention = decoder.attention.windows(window(json, "sliding_window")?, windowed);
    Ok(decoder)
}

/// Norms in front of and behind attention and MLP.
pub(super) const SANDWICH: Residual = Residual::Sandwich {
    attention: ["input_layernorm", "post_attention_layernorm"],
    mlp: ["pre_feedforward_layernorm", "post_feedforward_layernorm"],
};

/// What the Gemmas have in common.
pub(super) fn like(json: &ConfigJson, architecture: &'static str) -> Result<Decoder> {
    let bias = flag(json, "attention_bias", false)?;
    let mut decoder = llama::like(json, architecture, Biases { qkv: bias, out: bias, mlp: false })?;
    // Gemma's hidden_act is an older name that transformers passes over.
    decoder.mlp.activation = activation(json, "hidden_activation", Activation::GeluTanh)?;
    decoder.norms = Norms { plus_one: true, ..decoder.norms };
    decoder.embedding.scale = (decoder.n_embd as f32).sqrt();
    decoder.head.tied = flag(json, "tie_word_embeddings", true)?;
    Ok(decoder)
}

/// The factor of q·k that `query_pre_attn_scalar` stands for.
pub(super) fn query_scale(json: &ConfigJson, head_dim: usize) -> Result<f32> {
    let scalar = json.optional_f32("query_pre_attn_scalar", 1e-3..=1e6)?;
    Ok(1.0 / scalar.unwrap_or(head_dim as f32).sqrt())
}
