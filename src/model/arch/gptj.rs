//! GPT-J (Wang and Komatsuzaki 2021): `GPTJForCausalLM`. Attention and MLP read one norm
//! of the same stream; neighbouring elements of the first part of a head are rotated.

use super::fields::{Names, Sizes, activation, epsilon, flag};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::{Pairing, Rope};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::GPT2)?;
    let head_dim = sizes.head_dim()?;
    let n_rot = json.optional_usize("rotary_dim", 2..=head_dim)?.unwrap_or(head_dim);
    let rope = Rope::plain(n_rot, 10_000.0, Pairing::AsIs)?;
    let qkv = ["attn.q_proj", "attn.k_proj", "attn.v_proj"].map(|name| Linear::new(name, false));
    let out = Linear::new("attn.out_proj", false);
    Ok(Decoder {
        architecture: "gptj",
        vocab_size: sizes.vocab_size,
        n_positions: sizes.n_positions,
        n_embd: sizes.n_embd,
        n_layer: sizes.n_layer,
        bos_token_id: sizes.bos_token_id,
        embedding: Embedding { tokens: "wte.weight", scale: 1.0, positions: None },
        norms: Norms::layer(epsilon(json, "layer_norm_epsilon", 1e-5)?),
        residual: Residual::Parallel { attention: "ln_1", mlp: None },
        attention: Attention::new(&sizes, [sizes.n_head, head_dim], Qkv::Separate(qkv), out).rotary(rope),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.fc_in", true)),
            down: Linear::new("mlp.fc_out", true),
        },
        head: Head {
            norm: "ln_f",
            name: "lm_head",
            tied: flag(json, "tie_word_embeddings", false)?,
            bias: true,
            soft_cap: None,
        },
        eos_token_ids: sizes.eos_token_ids,
        prefix: "transformer.",
        layer_prefix: "h.{}.",
        ignored: &["attn.bias", "attn.masked_bias"],
    })
}
