//! Published shapes with random weights. Speed and memory do not depend on the weights'
//! values, so a machine without checkpoints can measure them.

use serde_json::{Value, json};

use super::decoder::Decoder;
use super::spec::Role;
use crate::checkpoint::{Checkpoint, ConfigJson, Fill, SyntheticTensor};
use crate::error::{Error, Result};

/// The sizes of a published model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// The model's name.
    pub name: &'static str,
    /// Its architecture: `gpt2` or `llama`.
    pub model_type: &'static str,
    /// Number of blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Number of attention heads.
    pub n_head: usize,
    /// Number of k heads, and of v heads.
    pub n_kv_head: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub n_inner: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest context, in positions.
    pub n_positions: usize,
    /// Whether the head is the token embedding.
    pub tied: bool,
    /// Base of the rotary embedding.
    pub theta: f64,
}

const fn gpt2(name: &'static str, n_layer: usize, n_embd: usize, n_head: usize) -> Shape {
    Shape {
        name,
        model_type: "gpt2",
        n_layer,
        n_embd,
        n_head,
        n_kv_head: n_head,
        head_dim: n_embd / n_head,
        n_inner: 4 * n_embd,
        vocab_size: 50257,
        n_positions: 1024,
        tied: true,
        theta: 0.0,
    }
}

const fn llama(name: &'static str, sizes: [usize; 7], n_positions: usize, tied: bool, theta: f64) -> Shape {
    let [n_layer, n_embd, n_inner, n_head, n_kv_head, head_dim, vocab_size] = sizes;
    let model_type = "llama";
    Shape {
        name,
        model_type,
        n_layer,
        n_embd,
        n_head,
        n_kv_head,
        head_dim,
        n_inner,
        vocab_size,
        n_positions,
        tied,
        theta,
    }
}

/// GPT-2's published sizes (Radford et al. 2019), DistilGPT-2, the embedded demo model,
/// and Llama models with the sizes in their checkpoints' configs. The Llama numbers are:
/// blocks, width, MLP width, heads, k and v heads, elements per head, tokens.
pub const SHAPES: [Shape; 12] = [
    gpt2("gpt2", 12, 768, 12),
    gpt2("gpt2-medium", 24, 1024, 16),
    gpt2("gpt2-large", 36, 1280, 20),
    gpt2("gpt2-xl", 48, 1600, 25),
    gpt2("distilgpt2", 6, 768, 12),
    Shape { vocab_size: 2048, n_positions: 512, ..gpt2("demo", 4, 192, 3) },
    llama("smollm2-135m", [30, 576, 1536, 9, 3, 64, 49152], 8192, true, 1e5),
    llama("smollm2-360m", [32, 960, 2560, 15, 5, 64, 49152], 8192, true, 1e5),
    llama("tinyllama-1.1b", [22, 2048, 5632, 32, 4, 64, 32000], 2048, false, 1e4),
    llama("llama-3.2-1b", [16, 2048, 8192, 32, 8, 64, 128_256], 131_072, true, 5e5),
    llama("llama-3.2-3b", [28, 3072, 8192, 24, 8, 128, 128_256], 131_072, true, 5e5),
    llama("llama-3.1-8b", [32, 4096, 14336, 32, 8, 128, 128_256], 131_072, false, 5e5),
];

/// The sizes that a description may set.
const FIELDS: [&str; 8] =
    ["n_layer", "n_embd", "n_head", "n_kv_head", "head_dim", "n_inner", "vocab_size", "n_positions"];

impl Shape {
    /// Returns the published shape called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Shape> {
        SHAPES.into_iter().find(|shape| shape.name == name)
    }

    /// Sets one of [`FIELDS`] and the sizes that follow from it, except sizes in `set`.
    fn set(&mut self, field: &str, value: usize, set: &[&str]) {
        match field {
            "n_layer" => self.n_layer = value,
            "n_embd" => self.n_embd = value,
            "n_head" => self.n_head = value,
            "n_kv_head" => self.n_kv_head = value,
            "head_dim" => self.head_dim = value,
            "n_inner" => self.n_inner = value,
            "vocab_size" => self.vocab_size = value,
            _ => self.n_positions = value,
        }
        let free = |follows: &str| !set.contains(&follows);
        if field == "n_embd" && free("n_inner") && self.model_type == "gpt2" {
            self.n_inner = 4 * value;
        }
        if field == "n_head" && free("n_kv_head") {
            self.n_kv_head = value;
        }
        if ["n_embd", "n_head"].contains(&field) && free("head_dim") && self.n_head > 0 {
            self.head_dim = self.n_embd / self.n_head;
        }
    }

    /// Returns its `config.json`.
    #[must_use]
    pub fn config_json(&self) -> Value {
        if self.model_type == "gpt2" {
            return json!({
                "model_type": "gpt2",
                "n_layer": self.n_layer,
                "n_embd": self.n_embd,
                "n_head": self.n_head,
                "n_inner": self.n_inner,
                "vocab_size": self.vocab_size,
                "n_positions": self.n_positions,
            });
        }
        json!({
            "model_type": self.model_type,
            "num_hidden_layers": self.n_layer,
            "hidden_size": self.n_embd,
            "intermediate_size": self.n_inner,
            "num_attention_heads": self.n_head,
            "num_key_value_heads": self.n_kv_head,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.n_positions,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.theta,
            "tie_word_embeddings": self.tied,
        })
    }

    fn config(&self) -> Result<Decoder> {
        Decoder::from_json(&ConfigJson::from_bytes(
            "random shape",
            self.config_json().to_string().as_bytes(),
        )?)
    }
}

/// Returns the config of a described shape. A description is a published name, sizes such
/// as `n_layer=2,n_embd=768`, or a name followed by sizes that replace its own. Omitted
/// sizes are gpt2's. Unless the description sets them, a GPT-2's `n_inner` is `4 *
/// n_embd`, `n_kv_head` follows `n_head`, and `head_dim` is an even share of the width.
///
/// # Errors
/// [`Error::Input`] for an unknown name or field, or a value that is not a whole number.
/// [`Error::Config`] for a value out of range, or heads that do not divide the width.
pub fn shape(description: &str) -> Result<Decoder> {
    let mut parts = description.split(',').map(str::trim).peekable();
    let name = parts.next_if(|part| !part.contains('=')).unwrap_or("gpt2");
    let Some(mut shape) = Shape::named(name) else {
        let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
        return Err(Error::input(format!(
            "no shape is called {name:?}: expected one of {}, or sizes such as n_layer=2,n_embd=768",
            names.join(", ")
        )));
    };
    let mut set = Vec::new();
    for part in parts {
        let (field, value) = part.split_once('=').unwrap_or((part, ""));
        let known =
            FIELDS.contains(&field) && (shape.model_type != "gpt2" || !LLAMAS_FIELDS.contains(&field));
        if !known {
            return Err(Error::input(format!("{part:?}: expected SIZE=NUMBER with {}", FIELDS.join(", "))));
        }
        let value: usize = value
            .parse()
            .map_err(|_| Error::input(format!("{part:?}: expected a whole number after {field}=")))?;
        set.push(field);
        shape.set(field, value, &set);
    }
    shape.config()
}

/// The members of [`FIELDS`] that a GPT-2 does not have.
const LLAMAS_FIELDS: [&str; 2] = ["n_kv_head", "head_dim"];

/// Returns the name of random weights of this shape in reports. It is `gpt2-xl-random`
/// for a published shape; otherwise it is made from the sizes.
#[must_use]
pub fn name(config: &Decoder) -> String {
    let published = SHAPES.into_iter().find(|shape| shape.config().is_ok_and(|other| other == *config));
    match published {
        Some(shape) => format!("{}-random", shape.name),
        None => format!("{}-{}x{}-random", config.architecture, config.n_layer, config.n_embd),
    }
}

/// Creates an F32 checkpoint of random weights for `config`. Values are computed when
/// they are read. They follow GPT-2's initialization (section 2.3 of the paper;
/// transformers' `GPT2PreTrainedModel._init_weights`). The standard deviation is 0.02.
/// For projections onto the residual stream, it is divided by the square root of their
/// number, so the stream does not grow with depth. Norm weights are 1, and biases are 0.
///
/// # Errors
/// [`Error::Tensor`] for a shape whose bytes exceed 2^64.
pub fn checkpoint(config: &Decoder, seed: u64) -> Result<Checkpoint> {
    let residual = 0.02 / (2.0 * config.n_layer as f32).sqrt();
    let tensors = config.tensors().into_iter().flat_map(|spec| {
        let fill = match spec.role {
            Role::Bias => Fill::Constant(0.0),
            Role::Norm => Fill::Constant(if spec.plus_one { 0.0 } else { 1.0 }),
            Role::Residual => Fill::Random { std: residual },
            Role::Matrix => Fill::Random { std: 0.02 },
        };
        let tensor = |source| SyntheticTensor { shape: spec.shape(source), name: source.name.clone(), fill };
        spec.sources.iter().map(tensor).collect::<Vec<_>>()
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
        assert_eq!(parameters("smollm2-135m"), 134_515_008);
        assert_eq!(parameters("tinyllama-1.1b"), 1_100_048_384);
        assert_eq!(parameters("llama-3.2-1b"), 1_235_814_400);
        assert_eq!(parameters("llama-3.1-8b"), 8_030_261_248);
        for published in SHAPES {
            let config = shape(published.name).unwrap();
            assert_eq!(name(&config), format!("{}-random", published.name));
        }
    }

    #[cfg(feature = "demo-model")]
    #[test]
    fn the_demo_shape_matches_the_demo_model() {
        let json = ConfigJson::from_bytes("config.json", include_bytes!("../../weights/config.json"));
        let config = Decoder::from_json(&json.unwrap()).unwrap();
        // The demo model also has an end-of-text token.
        let demo = Decoder { bos_token_id: Some(0), eos_token_ids: vec![0], ..shape("demo").unwrap() };
        assert_eq!(demo, config);
    }

    #[test]
    fn sizes_form_a_shape_or_override_a_named_one() {
        let config = shape("n_layer=2, n_embd=96,n_head=3,vocab_size=100,n_positions=64").unwrap();
        let sizes = [
            config.n_layer,
            config.n_embd,
            config.attention.n_head,
            config.mlp.n_inner,
            config.vocab_size,
            config.n_positions,
        ];
        assert_eq!(sizes, [2, 96, 3, 384, 100, 64]);
        assert_eq!(name(&config), "gpt2-2x96-random");
        let config = shape("gpt2-xl,n_layer=1,n_inner=8").unwrap();
        assert_eq!([config.n_layer, config.n_embd, config.mlp.n_inner], [1, 1600, 8]);
        assert_eq!(name(&shape("gpt2,n_inner=8").unwrap()), "gpt2-12x768-random");
    }

    #[test]
    fn missing_sizes_of_a_llama_are_derived() {
        let config = shape("smollm2-135m,n_layer=2,n_embd=64,n_head=4,n_inner=100,n_positions=99").unwrap();
        let heads = (config.attention.n_head, config.attention.n_kv_head, config.attention.head_dim);
        assert_eq!((heads, config.mlp.n_inner, config.n_positions), ((4, 4, 16), 100, 99));
        assert_eq!(name(&config), "llama-2x64-random");
        let config = shape("llama-3.2-1b,n_kv_head=2,head_dim=40,n_head=8").unwrap();
        let heads = (config.attention.n_head, config.attention.n_kv_head, config.attention.head_dim);
        assert_eq!(heads, (8, 2, 40));
    }

    #[test]
    fn invalid_shapes_are_refused() {
        let refused = |text: &str| shape(text).unwrap_err().to_string();
        assert!(refused("gpt3").contains("no shape is called \"gpt3\": expected one of gpt2, gpt2-medium"));
        assert!(refused("").contains("no shape is called \"\""));
        assert!(refused("gpt2,n_layers=3").contains("\"n_layers=3\": expected SIZE=NUMBER with n_layer"));
        assert!(refused("gpt2,n_kv_head=3").contains("expected SIZE=NUMBER"));
        assert!(refused("gpt2,demo").contains("\"demo\": expected SIZE=NUMBER"));
        assert!(refused("n_layer=two").contains("a whole number after n_layer="));
        assert!(refused("n_layer=0").contains("n_layer = 0"));
        assert!(refused("n_head=7").contains("a divisor of n_embd = 768"));
    }
}
