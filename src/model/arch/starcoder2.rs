//! StarCoder2 (Lozhkov et al. 2024): `Starcoder2ForCausalLM`. It uses Llama's names and
//! rotary positions with GPT-2's layer norms and plain MLP, biases everywhere, and a
//! window.

use super::fields::{Names, Parts, SELF_ATTN, Sizes, activation, epsilon, flag, window};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::{Rope, THETA_DEFAULT};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    // Published configs contain both fields. transformers ignores them and always
    // computes these values.
    json.one_of("norm_type", &[("layer_norm", ())])?;
    json.one_of("mlp_type", &[("default", ())])?;
    let sizes = Sizes::read(json, Names::LLAMA)?;
    let head_dim = sizes.head_dim()?;
    let n_kv_head = sizes.n_kv_head(Some(2))?;
    let rope = Rope::from_json(json, head_dim, sizes.n_positions, THETA_DEFAULT)?;
    let window = window(json, "sliding_window", None)?;
    let bias = flag(json, "use_bias", true)?;
    let qkv = Qkv::separate(SELF_ATTN, bias);
    let out = Linear::new("self_attn.o_proj", bias);
    let parts = Parts {
        prefix: "model.",
        layer_prefix: "layers.{}.",
        ignored: &["self_attn.rotary_emb.inv_freq"],
        embedding: Embedding::tokens("embed_tokens.weight"),
        norms: Norms::layer(epsilon(json, "norm_epsilon", 1e-5)?),
        residual: Residual::Sequential { attention: "input_layernorm", mlp: "post_attention_layernorm" },
        attention: Attention::new(&sizes, [n_kv_head, head_dim], qkv, out)
            .rotary(rope)
            .windows(window, |_| true),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "hidden_act", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.c_fc", bias)),
            down: Linear::new("mlp.c_proj", bias),
        },
        head: Head::new("norm", "lm_head", flag(json, "tie_word_embeddings", true)?),
    };
    Ok(sizes.decoder("starcoder2", parts))
}
