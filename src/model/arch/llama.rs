//! Llama (Touvron et al. 2023; Llama 3: Grattafiori et al. 2024): `LlamaForCausalLM`,
//! including SmolLM2 and TinyLlama. It has RMSNorm, rotary positions, grouped-query
//! attention, and a gated MLP. Mistral, Qwen and others build on it.

use super::fields::{Names, Parts, SELF_ATTN, Sizes, activation, epsilon, flag, must_be};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::{Rope, THETA_DEFAULT};

/// The projections that have biases.
#[derive(Clone, Copy, Default)]
pub(super) struct Biases {
    pub(super) qkv: bool,
    pub(super) out: bool,
    pub(super) mlp: bool,
}

/// Values of fields that a config omits, from transformers' config class.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    /// `None` if it equals the number of q heads.
    pub(super) n_kv_head: Option<usize>,
    /// `None` for an even share of the width.
    pub(super) head_dim: Option<usize>,
    pub(super) epsilon: f32,
    pub(super) theta: f64,
    pub(super) tied: bool,
}

impl Defaults {
    /// The defaults of `LlamaConfig`.
    pub(super) const LLAMA: Defaults =
        Defaults { n_kv_head: None, head_dim: None, epsilon: 1e-6, theta: THETA_DEFAULT, tied: false };
}

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let attention = flag(json, "attention_bias", false)?;
    must_be(json, "rope_interleaved", false, "Llama's files rotate halves")?;
    let biases = Biases { qkv: attention, out: attention, mlp: flag(json, "mlp_bias", false)? };
    like(json, "llama", biases, Defaults::LLAMA)
}

/// Reads a model with Llama's block and names.
pub(super) fn like(
    json: &ConfigJson,
    architecture: &'static str,
    biases: Biases,
    defaults: Defaults,
) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::LLAMA)?;
    let head_dim = sizes.explicit_head_dim(defaults.head_dim)?;
    let n_kv_head = sizes.n_kv_head(defaults.n_kv_head)?;
    let rope = Rope::from_json(json, head_dim, sizes.n_positions, defaults.theta)?;
    let qkv = Qkv::separate(SELF_ATTN, biases.qkv);
    let out = Linear::new("self_attn.o_proj", biases.out);
    let parts = Parts {
        prefix: "model.",
        layer_prefix: "layers.{}.",
        ignored: &["self_attn.rotary_emb.inv_freq"],
        embedding: Embedding::tokens("embed_tokens.weight"),
        norms: Norms::rms(epsilon(json, "rms_norm_eps", defaults.epsilon)?),
        residual: Residual::Sequential { attention: "input_layernorm", mlp: "post_attention_layernorm" },
        attention: Attention::new(&sizes, [n_kv_head, head_dim], qkv, out).rotary(rope),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "hidden_act", Activation::Silu)?,
            up: Up::Gated(["mlp.gate_proj", "mlp.up_proj"].map(|name| Linear::new(name, biases.mlp))),
            down: Linear::new("mlp.down_proj", biases.mlp),
        },
        head: Head::new("norm", "lm_head", flag(json, "tie_word_embeddings", defaults.tied)?),
    };
    Ok(sizes.decoder(architecture, parts))
}
