//! GPTBigCode (Ben Allal et al. 2023, SantaCoder and StarCoder): `GPTBigCodeForCausalLM`.
//! It uses GPT-2's block with matrices stored as `[out, in]`, and one k head and one v
//! head for all q heads.

use super::fields::{Names, Parts, Sizes, activation, epsilon, flag};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};
use crate::model::spec::HeadSources;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::GPT2)?;
    let head_dim = sizes.head_dim()?;
    let multi_query = flag(json, "multi_query", true)?;
    // Without multi-query, q, k and v of each head are stored together.
    let (n_kv_head, order) =
        if multi_query { (1, HeadSources::Blocks) } else { (sizes.n_head, HeadSources::Interleaved) };
    let qkv = Qkv::Fused(Linear::new("attn.c_attn", true), order);
    let heads = Attention::new(&sizes, [n_kv_head, head_dim], qkv, Linear::new("attn.c_proj", true));
    let scale = if flag(json, "scale_attn_weights", true)? { heads.scale } else { 1.0 };
    let parts = Parts {
        prefix: "transformer.",
        layer_prefix: "h.{}.",
        ignored: &["attn.bias", "attn.masked_bias"],
        embedding: Embedding::learned("wte.weight", "wpe.weight", 0),
        norms: Norms::layer(epsilon(json, "layer_norm_epsilon", 1e-5)?),
        residual: Residual::Sequential { attention: "ln_1", mlp: "ln_2" },
        attention: Attention { scale, ..heads },
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.c_fc", true)),
            down: Linear::new("mlp.c_proj", true),
        },
        head: Head::new("ln_f", "lm_head", flag(json, "tie_word_embeddings", true)?),
    };
    Ok(sizes.decoder("gpt_bigcode", parts))
}
