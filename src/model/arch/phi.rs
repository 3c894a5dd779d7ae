//! Phi-1, 1.5 and 2 (Li et al. 2023): `PhiForCausalLM`. Attention and MLP read one norm
//! of the same stream, a part of each head is rotated, everything has a bias.

use super::fields::{Names, Sizes, activation, epsilon, flag, must_be, n_rot};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::Rope;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "qk_layernorm", false, "no published Phi has norms of q and k")?;
    let sizes = Sizes::read(json, Names::LLAMA)?;
    let head_dim = sizes.head_dim()?;
    let n_rot = n_rot(json, "partial_rotary_factor", head_dim, 0.5)?;
    let rope = Rope::from_json(json, n_rot, sizes.n_positions)?;
    let qkv =
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"].map(|name| Linear::new(name, true));
    let out = Linear::new("self_attn.dense", true);
    Ok(Decoder {
        architecture: "phi",
        vocab_size: sizes.vocab_size,
        n_positions: rope.n_positions(sizes.n_positions),
        n_embd: sizes.n_embd,
        n_layer: sizes.n_layer,
        bos_token_id: sizes.bos_token_id,
        embedding: Embedding { tokens: "embed_tokens.weight", scale: 1.0, positions: None },
        norms: Norms::layer(epsilon(json, "layer_norm_eps", 1e-5)?),
        residual: Residual::Parallel { attention: "input_layernorm", mlp: None },
        attention: Attention::new(&sizes, [sizes.n_kv_head()?, head_dim], Qkv::Separate(qkv), out)
            .rotary(rope),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "hidden_act", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.fc1", true)),
            down: Linear::new("mlp.fc2", true),
        },
        head: Head {
            norm: "final_layernorm",
            name: "lm_head",
            tied: flag(json, "tie_word_embeddings", false)?,
            bias: true,
            soft_cap: None,
        },
        eos_token_ids: sizes.eos_token_ids,
        prefix: "model.",
        layer_prefix: "layers.{}.",
        ignored: &["self_attn.rotary_emb.inv_freq"],
    })
}
