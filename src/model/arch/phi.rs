//! Phi-1, 1.5 and 2 (Li et al. 2023): `PhiForCausalLM`. Attention and MLP read one norm
//! of the same stream, part of each head is rotated, and everything has a bias.

use super::fields::{Names, Parts, SELF_ATTN, Sizes, activation, epsilon, flag, must_be, n_rot};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::{Rope, THETA_DEFAULT};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "qk_layernorm", false, "no published Phi has norms of q and k")?;
    let sizes = Sizes::read(json, Names::LLAMA)?;
    let head_dim = sizes.head_dim()?;
    let n_rot = n_rot(json, "partial_rotary_factor", head_dim, 0.5)?;
    let rope = Rope::from_json(json, n_rot, sizes.n_positions, THETA_DEFAULT)?;
    let qkv = Qkv::separate(SELF_ATTN, true);
    let out = Linear::new("self_attn.dense", true);
    let parts = Parts {
        prefix: "model.",
        layer_prefix: "layers.{}.",
        ignored: &["self_attn.rotary_emb.inv_freq"],
        embedding: Embedding::tokens("embed_tokens.weight"),
        norms: Norms::layer(epsilon(json, "layer_norm_eps", 1e-5)?),
        residual: Residual::Parallel { attention: "input_layernorm", mlp: None },
        attention: Attention::new(&sizes, [sizes.n_kv_head(None)?, head_dim], qkv, out).rotary(rope),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "hidden_act", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.fc1", true)),
            down: Linear::new("mlp.fc2", true),
        },
        head: Head {
            bias: true,
            ..Head::new("final_layernorm", "lm_head", flag(json, "tie_word_embeddings", false)?)
        },
    };
    Ok(sizes.decoder("phi", parts))
}
