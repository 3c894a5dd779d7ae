//! GPT-2 (Radford et al. 2019): `GPT2LMHeadModel`. It has learned positions, layer norms
//! with bias, one matrix for q, k and v, and matrices stored as `[in, out]`.

use super::fields::{Names, Parts, Sizes, activation, epsilon, flag, must_be};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::spec::HeadSources;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "add_cross_attention", false, "wgpt runs decoder-only models")?;
    let sizes = Sizes::read(json, Names::GPT2)?;
    let head_dim = sizes.head_dim()?;
    let qkv = Qkv::Fused(Linear::conv1d("attn.c_attn"), HeadSources::Blocks);
    let heads = Attention::new(&sizes, [sizes.n_head, head_dim], qkv, Linear::conv1d("attn.c_proj"));
    let scale = if flag(json, "scale_attn_weights", true)? { heads.scale } else { 1.0 };
    let parts = Parts {
        prefix: "transformer.",
        layer_prefix: "h.{}.",
        ignored: &["attn.bias", "attn.masked_bias"],
        embedding: Embedding::learned("wte.weight", "wpe.weight", 0),
        norms: Norms::layer(epsilon(json, "layer_norm_epsilon", 1e-5)?),
        residual: Residual::Sequential { attention: "ln_1", mlp: "ln_2" },
        attention: Attention {
            scale,
            scale_by_layer: flag(json, "scale_attn_by_inverse_layer_idx", false)?,
            ..heads
        },
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::GeluTanh)?,
            up: Up::Plain(Linear::conv1d("mlp.c_fc")),
            down: Linear::conv1d("mlp.c_proj"),
        },
        head: Head::new("ln_f", "lm_head", flag(json, "tie_word_embeddings", true)?),
    };
    Ok(sizes.decoder("gpt2", parts))
}
