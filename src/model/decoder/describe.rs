//! A model's description in words, as `wgpt inspect` prints it.

use super::{Attention, Decoder, Residual, Up};
use crate::kernels::NormForm;

impl Decoder {
    /// Returns pairs of a label and a text, from the embedding to the head.
    #[must_use]
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        vec![
            ("embedding", self.embedding_text()),
            ("norm", self.norm_text()),
            ("residual", self.residual_text().into()),
            ("attention", self.attention_text()),
            ("positions", self.positions_text()),
            ("MLP", self.mlp_text()),
            ("head", self.head_text()),
        ]
    }

    fn embedding_text(&self) -> String {
        let mut text = format!("{} tokens of width {}", self.vocab_size, self.n_embd);
        if self.embedding.scale != 1.0 {
            text += &format!(", times {}", self.embedding.scale);
        }
        text
    }

    fn norm_text(&self) -> String {
        let kind = match self.norms.kind {
            NormForm::Layer => "layer norm",
            NormForm::Rms => "RMSNorm",
        };
        let plus_one = if self.norms.plus_one { ", scaled by 1 + weight" } else { "" };
        format!("{kind}, epsilon {:e}{plus_one}", self.norms.epsilon)
    }

    fn residual_text(&self) -> &'static str {
        match self.residual {
            Residual::Sequential { .. } => "sequential: x += attention(norm(x)); x += mlp(norm(x))",
            Residual::Sandwich { .. } => "sandwich: x += norm(attention(norm(x))); x += norm(mlp(norm(x)))",
            Residual::Parallel { mlp: Some(_), .. } => "parallel: x += attention(norm(x)) + mlp(norm(x))",
            Residual::Parallel { mlp: None, .. } => {
                "parallel, one norm: y = norm(x); x += attention(y) + mlp(y)"
            }
        }
    }

    fn attention_text(&self) -> String {
        let Attention { n_head, n_kv_head, head_dim, scale, scale_by_layer, soft_cap, qk_norm, .. } =
            &self.attention;
        let mut text = format!("{n_head} heads of {head_dim}");
        match *n_kv_head {
            1 if *n_head > 1 => text += ", one for all of k and v (multi-query)",
            n if n != *n_head => text += &format!(", {n} of k and v (grouped-query)"),
            _ => {}
        }
        text += &format!(", scale {scale}");
        if *scale_by_layer {
            text += " / layer";
        }
        if let Some(cap) = soft_cap {
            text += &format!(", scores capped at {cap}");
        }
        if qk_norm.is_some() {
            text += ", heads of q and k normed";
        }
        let mut windows: Vec<usize> = self.attention.layers.iter().filter_map(|layer| layer.window).collect();
        let n = windows.len();
        windows.dedup();
        match windows[..] {
            [] => {}
            [window] if n == self.n_layer => text += &format!(", window {window}"),
            [window] => text += &format!(", window {window} in {n} of {} layers", self.n_layer),
            _ => text += ", windows by layer",
        }
        text
    }

    fn positions_text(&self) -> String {
        if self.embedding.positions.is_some() {
            return format!("{}, learned", self.n_positions);
        }
        let ropes = self.attention.ropes.iter().map(|rope| {
            let part = match rope.n_rot {
                n if n == self.attention.head_dim => String::new(),
                n => format!(" of {n} elements"),
            };
            format!("rotary{part}, theta {}{}", rope.theta, rope.scaling.describe())
        });
        let ropes: Vec<String> = ropes.collect();
        format!("{}, {}", self.n_positions, if ropes.is_empty() { "none".into() } else { ropes.join("; ") })
    }

    fn mlp_text(&self) -> String {
        let gate = if matches!(self.mlp.up, Up::Plain(_)) { "" } else { "gated, " };
        format!("{}, {gate}{}", self.mlp.n_inner, self.mlp.activation.name())
    }

    fn head_text(&self) -> String {
        let mut text = String::from(if self.head.tied { "tied to the embedding" } else { "untied" });
        if self.head.bias {
            text += ", bias";
        }
        if let Some(cap) = self.head.soft_cap {
            text += &format!(", logits capped at {cap}");
        }
        text
    }
}
