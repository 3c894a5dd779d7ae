//! GPT-J (Wang and Komatsuzaki 2021): `GPTJForCausalLM`. Attention and MLP read one norm
//! of the same stream. Neighbouring elements in the first part of each head are rotated.

use super::fields::{Names, Parts, Sizes, activation, epsilon, flag};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::rope::{Pairing, Rope, THETA_DEFAULT};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::GPT2)?;
    let head_dim = sizes.head_dim()?;
    // GPTJConfig's default is 64.
    let n_rot = json.optional_usize("rotary_dim", 2..=head_dim)?.unwrap_or(64.min(head_dim));
    let rope = Rope::plain(n_rot, THETA_DEFAULT, Pairing::AsIs)?;
    let qkv = Qkv::separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"], false);
    let out = Linear::new("attn.out_proj", false);
    let parts = Parts {
        prefix: "transformer.",
        layer_prefix: "h.{}.",
        ignored: &["attn.bias", "attn.masked_bias"],
        embedding: Embedding::tokens("wte.weight"),
        norms: Norms::layer(epsilon(json, "layer_norm_epsilon", 1e-5)?),
        residual: Residual::Parallel { attention: "ln_1", mlp: None },
        attention: Attention::new(&sizes, [sizes.n_head, head_dim], qkv, out).rotary(rope),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.fc_in", true)),
            down: Linear::new("mlp.fc_out", true),
        },
        head: Head { bias: true, ..Head::new("ln_f", "lm_head", flag(json, "tie_word_embeddings", false)?) },
    };
    Ok(sizes.decoder("gptj", parts))
}
