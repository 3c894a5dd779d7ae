//! GPT-2 shapes with random weights: speed and memory do not depend on the
//! weights' values, so a machine without checkpoints can measure.

use super::gpt2::Gpt2Config;
use crate::checkpoint::{Checkpoint, ConfigJson, Fill, SyntheticTensor};
use crate::error::{Error, Result};

/// The sizes of a published model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The model's name.
    pub name: &'static str,
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Attention heads.
    pub n_head: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub n_positions: usize,
}

const fn gpt2(name: &'static str, n_layer: usize, n_embd: usize, n_head: usize) -> Shape {
    Shape { name, n_layer, n_embd, n_head, vocab_size: 50257, n_positions: 1024 }
}

/// GPT-2's published sizes (Radford et al. 2019), DistilGPT-2, and the embedded
/// demo model.
pub const SHAPES: [Shape; 6] = [
    gpt2("gpt2", 12, 768, 12),
    gpt2("gpt2-medium", 24, 1024, 16),
    gpt2("gpt2-large", 36, 1280, 20),
    gpt2("gpt2-xl", 48, 1600, 25),
    gpt2("distilgpt2", 6, 768, 12),
    Shape { name: "demo", n_layer: 4, n_embd: 192, n_head: 3, vocab_size: 2048, n_positions: 512 },
];

/// The sizes that a description may set.
const FIELDS: [&str; 6] = ["n_layer", "n_embd", "n_head", "n_inner", "vocab_size", "n_positions"];

impl Shape {
    /// The published shape called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Shape> {
        SHAPES.into_iter().find(|shape| shape.name == name)
    }
}

/// The config of a described shape: a published name, sizes as
/// `n_layer=2,n_embd=768`, or a name and then sizes that replace its own. What
/// is left out is gpt2's; `n_inner` is 4 `n_embd`.
///
/// # Errors
/// [`Error::Input`] for an unknown name or field or a value that is no whole
/// number, [`Error::Config`] for a value out of range or heads that do not
/// divide the width.
pub fn shape(description: &str) -> Result<Gpt2Config> {
    let mut parts = description.split(',').map(str::trim).peekable();
    let name = parts.next_if(|part| !part.contains('=')).unwrap_or("gpt2");
    let Some(shape) = Shape::named(name) else {
        let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
        return Err(Error::input(format!(
            "no shape is called {name:?}: expected one of {}, or sizes such as n_layer=2,n_embd=768",
            names.join(", ")
        )));
    };
    let mut fields = serde_json::json!({
        "n_layer": shape.n_layer,
        "n_embd": shape.n_embd,
        "n_head": shape.n_head,
        "vocab_size": shape.vocab_size,
        "n_positions": shape.n_positions,
    });
    for part in parts {
        let (field, value) = part.split_once('=').unwrap_or((part, ""));
        if !FIELDS.contains(&field) {
            return Err(Error::input(format!("{part:?}: expected SIZE=NUMBER with {}", FIELDS.join(", "))));
        }
        let value: usize = value
            .parse()
            .map_err(|_| Error::input(format!("{part:?}: expected a whole number behind {field}=")))?;
        fields[field] = value.into();
    }
    Gpt2Config::from_json(&ConfigJson::from_bytes("random shape", fields.to_string().as_bytes())?)
}

/// What reports call random weights of this shape: `gpt2-xl-random`, or the
/// sizes where the shape is not a published one.
#[must_use]
pub fn name(config: &Gpt2Config) -> String {
    let &Gpt2Config { n_layer, n_embd, n_head, vocab_size, n_positions, n_inner, .. } = config;
    let published = SHAPES.into_iter().find(|shape| {
        *shape == Shape { name: shape.name, n_layer, n_embd, n_head, vocab_size, n_positions }
            && n_inner == 4 * n_embd
    });
    match published {
        Some(shape) => format!("{}-random", shape.name),
        None => format!("gpt2-{n_layer}x{n_embd}-random"),
    }
}

/// Random weights for `config`, F32, whose values are computed when they are
/// read. GPT-2's initialisation (section 2.3 of the paper; transformers'
/// `GPT2PreTrainedModel._init_weights`): deviation 0.02, less in the projections
/// onto the residual stream by the root of their number, so that the stream's
/// size does not grow with depth; norms are 1, biases 0.
///
/// # Errors
/// [`Error::Tensor`] for a shape whose bytes exceed 2^64.
pub fn checkpoint(config: &Gpt2Config, seed: u64) -> Result<Checkpoint> {
    let residual = 0.02 / (2.0 * config.n_layer as f32).sqrt();
    let tensors = config.tensors().into_iter().map(|spec| {
        let name = spec.name.as_str();
        let fill = if name.ends_with(".bias") {
            Fill::Constant(0.0)
        } else if name.contains("ln_") {
            Fill::Constant(1.0)
        } else if name.ends_with("c_proj.weight") {
            Fill::Random { std: residual }
        } else {
            Fill::Random { std: 0.02 }
        };
        SyntheticTensor { shape: spec.shape(), name: spec.name, fill }
    });
    Checkpoint::synthetic(tensors.collect(), seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_shapes_have_their_published_sizes() {
        let parameters = |name: &str| shape(name).unwrap().n_parameters();
        assert_eq!(parameters("gpt2"), 124_439_808);
        assert_eq!(parameters("gpt2-medium"), 354_823_168);
        assert_eq!(parameters("gpt2-large"), 774_030_080);
        assert_eq!(parameters("gpt2-xl"), 1_557_611_200);
        assert_eq!(parameters("distilgpt2"), 81_912_576);
        for published in SHAPES {
            let config = shape(published.name).unwrap();
            assert_eq!(name(&config), format!("{}-random", published.name));
        }
    }

    #[cfg(feature = "demo-model")]
    #[test]
    fn the_demo_shape_is_the_demo_models() {
        let json = ConfigJson::from_bytes("config.json", include_bytes!("../../weights/config.json"));
        let config = Gpt2Config::from_json(&json.unwrap()).unwrap();
        // The demo model has an end-of-text token beside.
        let demo = Gpt2Config { bos_token_id: Some(0), eos_token_ids: vec![0], ..shape("demo").unwrap() };
        assert_eq!(demo, config);
    }

    #[test]
    fn sizes_stand_alone_or_replace_those_of_a_name() {
        let config = shape("n_layer=2, n_embd=96,n_head=3,vocab_size=100,n_positions=64").unwrap();
        let sizes = [
            config.n_layer,
            config.n_embd,
            config.n_head,
            config.n_inner,
            config.vocab_size,
            config.n_positions,
        ];
        assert_eq!(sizes, [2, 96, 3, 384, 100, 64]);
        assert_eq!(name(&config), "gpt2-2x96-random");
        let config = shape("gpt2-xl,n_layer=1,n_inner=8").unwrap();
        assert_eq!([config.n_layer, config.n_embd, config.n_inner], [1, 1600, 8]);
        assert_eq!(name(&shape("gpt2,n_inner=8").unwrap()), "gpt2-12x768-random");
    }

    #[test]
    fn what_is_no_shape_is_refused() {
        let refused = |text: &str| shape(text).unwrap_err().to_string();
        assert!(refused("gpt3").contains("no shape is called \"gpt3\": expected one of gpt2, gpt2-medium"));
        assert!(refused("").contains("no shape is called \"\""));
        assert!(refused("gpt2,n_layers=3").contains("\"n_layers=3\": expected SIZE=NUMBER with n_layer"));
        assert!(refused("gpt2,demo").contains("\"demo\": expected SIZE=NUMBER"));
        assert!(refused("n_layer=two").contains("a whole number behind n_layer="));
        assert!(refused("n_layer=0").contains("n_layer = 0"));
        assert!(refused("n_head=7").contains("a divisor of n_embd = 768"));
    }
}
