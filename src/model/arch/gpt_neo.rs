//! GPT-Neo (Black et al. 2021): `GPTNeoForCausalLM`. It uses GPT-2's block with separate
//! projections, unscaled scores, and a window in every other layer.

use super::fields::{Names, Parts, Sizes, activation, epsilon, flag, window, windowed_layers};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{Attention, Decoder, Embedding, Head, Linear, Mlp, Norms, Qkv, Residual, Up};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    let sizes = Sizes::read(json, Names::GPT_NEO)?;
    let head_dim = sizes.head_dim()?;
    let names = ["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"];
    let qkv = Qkv::separate(names, false);
    let out = Linear::new("attn.attention.out_proj", true);
    let heads = Attention::new(&sizes, [sizes.n_head, head_dim], qkv, out);
    let local = local_layers(json, sizes.n_layer)?;
    let window = window(json, "window_size", Some(256))?;
    let parts = Parts {
        prefix: "transformer.",
        layer_prefix: "h.{}.",
        ignored: &["attn.attention.bias", "attn.attention.masked_bias"],
        embedding: Embedding::learned("wte.weight", "wpe.weight", 0),
        norms: Norms::layer(epsilon(json, "layer_norm_epsilon", 1e-5)?),
        residual: Residual::Sequential { attention: "ln_1", mlp: "ln_2" },
        attention: Attention { scale: 1.0, ..heads.windows(window, |layer| local[layer]) },
        mlp: Mlp {
            n_inner: sizes.n_inner,
            activation: activation(json, "activation_function", Activation::GeluTanh)?,
            up: Up::Plain(Linear::new("mlp.c_fc", true)),
            down: Linear::new("mlp.c_proj", true),
        },
        head: Head::new("ln_f", "lm_head", flag(json, "tie_word_embeddings", true)?),
    };
    Ok(sizes.decoder("gpt_neo", parts))
}

/// Returns whether each layer has a window. `attention_layers` has one word per layer.
/// `attention_types` has lists of words, each with a repeat count.
fn local_layers(json: &ConfigJson, n_layer: usize) -> Result<Vec<bool>> {
    let listed = windowed_layers(json, "attention_layers", ["global", "local"], n_layer)?;
    let Some(types) = json.value("attention_types") else {
        return listed.ok_or_else(|| json.fault("attention_layers", "global or local for each layer"));
    };
    if let Some(listed) = listed {
        return Ok(listed);
    }
    let mut layers = Vec::new();
    for group in types.as_array().into_iter().flatten() {
        let words: Vec<_> =
            group[0].as_array().into_iter().flatten().filter_map(|word| word.as_str()).collect();
        let known = words.iter().all(|word| ["global", "local"].contains(word));
        let times = group[1].as_u64().filter(|&times| known && times as usize <= n_layer);
        (0..times.unwrap_or(0)).for_each(|_| layers.extend(words.iter().map(|word| *word == "local")));
    }
    if layers.len() == n_layer {
        return Ok(layers);
    }
    Err(json.fault(
        "attention_types",
        format!("lists of global and local, and their repetitions: {n_layer} in all"),
    ))
}
