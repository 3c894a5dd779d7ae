//! GPT-2 (Radford et al. 2019): `GPT2LMHeadModel`. Learned positions, layer norms with
//! bias, one matrix for q, k and v, matrices as `[in, out]`.

use super::fields::{Names, Sizes, activation, epsilon, flag, must_be};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{
    Attention, Decoder, Embedding, Head, LearnedPositions, Linear, Mlp, Norms, Qkv, Residual, Up,
};
use crate::model::spec::HeadSources;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "add_cross_attention", false, "wgpt runs decoder-only models")?;
    let sizes = Sizes::read(json, Names::GPT2)?;
    let head_dim = sizes.head_dim()?;
    let qkv = Qkv::Fused(Linear::conv1d("attn.c_attn"), HeadSources::Blocks);
    let heads = Attention::new(&sizes, [sizes.n_head, head_dim], qkv, Linear::conv1d("attn.c_proj"));
    let scale = if flag(json, "scale_attn_weights", true)? { heads.scale } else { 1.0 };
    Ok(Decoder {
        architecture: "gpt2",
        vocab_size: sizes.vocab_size,
        n_positions: sizes.n_positions,
        n_embd: sizes.n_embd,
        n_layer: sizes.n_layer,
        bos_token_id: sizes.bos_token_id,
        embedding: Embedding {
            tokens: "wte.weight",
            scale: 1.0,
            positions: Some(LearnedPositions { name: "wpe.weight", skipped: 0 }),
        },
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
        head: Head {
            norm: "ln_f",
            name: "lm_head",
            tied: flag(json, "tie_word_embeddings", true)?,
            bias: false,
            soft_cap: None,
        },
        eos_token_ids: sizes.eos_token_ids,
        prefix: "transformer.",
        layer_prefix: "h.{}.",
        ignored: &["attn.bias", "attn.masked_bias"],
    })
}
