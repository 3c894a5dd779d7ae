//! OPT (Zhang et al. 2022): `OPTForCausalLM`. It uses GPT-2's block with ReLU, separate
//! projections, and learned positions. The first two rows of the positions are for
//! padding.

use super::fields::{Names, Parts, SELF_ATTN, Sizes, activation, flag, must_be};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "do_layer_norm_before", true, "norms after the sum (OPT-350M) are not supported")?;
    must_be(json, "_remove_final_layer_norm", false, "a model without a final norm is not supported")?;
    must_be(json, "layer_norm_elementwise_affine", true, "norms without weights are not supported")?;
    let sizes = Sizes::read(json, Names::OPT)?;
    let n_embd = sizes.n_embd;
    if json.optional_usize("word_embed_proj_dim", 1..=usize::MAX)?.is_some_and(|width| width != n_embd) {
        let expected =
            format!("hidden_size = {n_embd}: a projection of the embedding (OPT-350M) is not supported");
        return Err(json.fault("word_embed_proj_dim", expected));
    }
    let head_dim = sizes.head_dim()?;
    let bias = flag(json, "enable_bias", true)?;
    let qkv = Qkv::separate(SELF_ATTN, bias);
    let out = Linear::new("self_attn.out_proj", bias);
    let parts = Parts {
        prefix: "model.",
        layer_prefix: "decoder.layers.{}.",
        ignored: &[],
        embedding: Embedding::learned("decoder.embed_tokens.weight", "decoder.embed_positions.weight", 2),
        norms: Norms::layer(1e-5),
        residual: Residual::Sequential { attention: "self_attn_layer_norm", mlp: "final_layer_norm" },
        attention: Attention::new(&sizes, [sizes.n_head, head_dim], qkv, out),
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::Relu)?,
            up: Up::Plain(Linear::new("fc1", bias)),
            down: Linear::new("fc2", bias),
        },
        head: Head::new("decoder.final_layer_norm", "lm_head", flag(json, "tie_word_embeddings", true)?),
    };
    Ok(sizes.decoder("opt", parts))
}
