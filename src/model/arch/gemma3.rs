//! Gemma 3's text model (Kamath et al. 2025): `Gemma3ForCausalLM`. It uses Gemma 2's
//! block without caps, with norms of q and k heads. In each group of six layers, the
//! first five have a window and a separate rotary base, and the sixth sees all positions.

use super::fields::{layer_types, must_be, soft_cap, window};
use super::gemma::{self, QUERY_SCALARS, SANDWICH};
use super::llama::Defaults;
use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::model::decoder::{Decoder, LayerAttention};

/// The defaults of `Gemma3TextConfig`.
const DEFAULTS: Defaults = Defaults { n_kv_head: Some(4), theta: 1e6, ..gemma::DEFAULTS };

pub(super) fn decoder(json: &ConfigJson) -> Result<Decoder> {
    must_be(json, "use_bidirectional_attention", false, "wgpt runs causal models")?;
    let mut decoder = gemma::like(json, "gemma3_text", DEFAULTS)?;
    decoder.residual = SANDWICH;
    decoder.head.soft_cap = soft_cap(json, "final_logit_softcapping", None)?;
    let attention = &mut decoder.attention;
    attention.soft_cap = soft_cap(json, "attn_logit_softcapping", None)?;
    let scalar = json.optional_f32("query_pre_attn_scalar", QUERY_SCALARS)?.unwrap_or(256.0);
    attention.scale = gemma::query_scale(scalar);
    attention.qk_norm = Some(["self_attn.q_norm", "self_attn.k_norm"]);

    let local_theta = json.optional_f64("rope_local_base_freq", 1.0..=1e12)?.unwrap_or(10_000.0);
    let local = attention.ropes[0].unscaled(local_theta);
    attention.ropes.push(local);
    let window = window(json, "sliding_window", Some(4096))?;
    let types = layer_types(json, decoder.n_layer)?;
    let pattern = json.optional_usize("sliding_window_pattern", 1..=1 << 12)?.unwrap_or(6);
    for (i, layer) in decoder.attention.layers.iter_mut().enumerate() {
        let local = types.as_ref().map_or((i + 1) % pattern != 0, |types| types[i]);
        *layer = LayerAttention { window: window.filter(|_| local), rope: usize::from(local) };
    }
    Ok(decoder)
}
