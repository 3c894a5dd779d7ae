//! Gemma 3's text model (Kamath et al. 2025): `Gemma3ForCausalLM`. Gemma 2's block
//! without caps, with norms of the heads of q and k; five layers with a window and a
//! base of their own to each that sees everything.

use super::fields::{layer_types, must_be, soft_cap, window};
use super::gemma::{self, SANDWICH};
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::model::decoder::{Decoder, LayerAttention};

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "use_bidirectional_attention", false, "wgpt runs causal models")?;
    let mut decoder = gemma::like(json, "gemma3_text")?;
    decoder.residual = SANDWICH;
    decoder.head.soft_cap = soft_cap(json, "final_logit_softcapping")?;
    let attention = &mut decoder.attention;
    attention.soft_cap = soft_cap(json, "attn_logit_softcapping")?;
    attention.scale = gemma::query_scale(json, attention.head_dim)?;
    attention.qk_norm = Some(["self_attn.q_norm", "self_attn.k_norm"]);

    let local_theta = json.optional_f64("rope_local_base_freq", 1.0..=1e12)?.unwrap_or(10_000.0);
    let local = attention.ropes[0].unscaled(local_theta);
    attention.ropes.push(local);
    let window = window(json, "sliding_window")?;
    let types = layer_types(json, decoder.n_layer)?;
    let pattern = json.optional_usize("sliding_window_pattern", 1..=1 << 12)?.unwrap_or(6);
    for (i, layer) in decoder.attention.layers.iter_mut().enumerate() {
        let local = types.as_ref().map_or((i + 1) % pattern != 0, |types| types[i]);
        *layer = LayerAttention { window: window.filter(|_| local), rope: usize::from(local) };
    }
    Ok(decoder)
}
