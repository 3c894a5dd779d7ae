//! GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023): `GPTNeoXForCausalLM`.
//! Attention and MLP read the same stream, part of each head is rotated, and q, k and v
//! of a head are stored together.

use super::fields::{Names, Parts, Sizes, activation, epsilon, flag, n_rot};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::{Rope, THETA_DEFAULT};
use crate::model::spec::HeadSources;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::LLAMA)?;
    let head_dim = sizes.head_dim()?;
    // Older configs have only rotary_pct, newer ones have both.
    let partial = json.optional_f64("partial_rotary_factor", 0.0..=1.0)?.unwrap_or(0.25);
    let n_rot = n_rot(json, "rotary_pct", head_dim, partial)?;
    let mut rope = Rope::from_json(json, n_rot, sizes.n_positions, THETA_DEFAULT)?;
    if let Some(theta) = json.optional_f64("rotary_emb_base", 1.0..=1e12)? {
        rope.theta = theta;
    }
    let bias = flag(json, "attention_bias", true)?;
    let qkv = Qkv::Fused(Linear::new("attention.query_key_value", bias), HeadSources::Interleaved);
    let out = Linear::new("attention.dense", bias);
    let residual = if flag(json, "use_parallel_residual", true)? {
        Residual::Parallel { attention: "input_layernorm", mlp: Some("post_attention_layernorm") }
    } else {
        Residual::Sequential { attention: "input_layernorm", mlp: "post_attention_layernorm" }
    };
    let parts = Parts {
        prefix: "gpt_neox.",
        layer_prefix: "layers.{}.",
        ignored: &["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"],
        embedding: Embedding::tokens("embed_in.weight"),
        norms: Norms::layer(epsilon(json, "layer_norm_eps", 1e-5)?),
        residual,
        attention: Attention::new(&sizes, [sizes.n_head, head_dim], qkv, out).rotary(rope),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "hidden_act", Activation::Gelu)?,
            up: Up::Plain(Linear::new("mlp.dense_h_to_4h", true)),
            down: Linear::new("mlp.dense_4h_to_h", true),
        },
        head: Head::new("final_layer_norm", "embed_out", flag(json, "tie_word_embeddings", false)?),
    };
    Ok(sizes.decoder("gpt_neox", parts))
}
