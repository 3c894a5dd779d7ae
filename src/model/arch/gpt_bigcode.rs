//! GPTBigCode (Ben Allal et al. 2023, SantaCoder and StarCoder): `GPTBigCodeForCausalLM`.
//! GPT-2's block with matrices as `[out, in]` and one head of k and v for all of q.

use super::fields::{Names, Sizes, activation, epsilon, flag};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{
    Attention, Decoder, Embedding, Head, LearnedPositions, Linear, Mlp, Norms, Qkv, Residual, Up,
};
use crate::model::spec::HeadSources;

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::GPT2)?;
    let head_dim = sizes.head_dim()?;
    let multi_query = flag(json, "multi_query", true)?;
    // With as many heads of k and v as of q, those of a head stand together.
    let (n_kv_head, order) =
        if multi_query { (1, HeadSources::Blocks) } else { (sizes.n_head, HeadSources::Interleaved) };
    let qkv = Qkv::Fused(Linear::new("attn.c_attn", true), order);
    let heads = Attention::new(&sizes, [n_kv_head, head_dim], qkv, Linear::new("attn.c_proj", true));
    let scale = if flag(json, "scale_attn_weights", true)? { heads.scale } else { 1.0 };
    Ok(Decoder {
        architecture: "gpt_bigcode",
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
        attention: Attention { scale, ..heads },
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.c_fc", true)),
            down: Linear::new("mlp.c_proj", true),
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
