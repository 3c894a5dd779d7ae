//! GPT-2 (Radford et al. 2019): its configuration and the names of its tensors,
//! as `GPT2LMHeadModel` of transformers writes them.

use crate::checkpoint::ConfigJson;
use crate::error::{Error, Result};
use crate::kernels::{Activation, POSITIONS_MAX, TAGS_MAX};
use crate::tensor::Axis;

/// Bounds of what a config may ask for, so that a damaged file cannot lead to
/// absurd allocations; each is far above any published GPT-2.
const MAX_VOCAB: usize = 1 << 24;
const MAX_POSITIONS: usize = 1 << 20;
const MAX_WIDTH: usize = 1 << 17;
const MAX_LAYERS: usize = 1 << 12;
// What the flag of overflows in the cache has room for.
const _: () = assert!(MAX_POSITIONS <= POSITIONS_MAX && MAX_LAYERS <= TAGS_MAX);

/// The fields of `config.json` that shape the computation.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2Config {
    /// Tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Attention heads; divides `n_embd`.
    pub n_head: usize,
    /// Width of the MLP; 4 `n_embd` where the config says null.
    pub n_inner: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Added to the variance in layer norms.
    pub layer_norm_epsilon: f32,
    /// Whether scores are divided by the square root of the head's size.
    pub scale_attn_weights: bool,
    /// Whether scores of layer i are divided by i + 1 as well.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether the head shares the token embedding.
    pub tie_word_embeddings: bool,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// End-of-text tokens.
    pub eos_token_ids: Vec<u32>,
}

/// The values of `activation_function` and what they mean.
const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("tanh", Activation::Tanh),
];

impl Gpt2Config {
    /// Reads and checks a `config.json`.
    ///
    /// # Errors
    /// [`Error::Config`] naming the field and its value.
    pub fn from_json(json: &ConfigJson) -> Result<Self> {
        json.one_of("model_type", &[("gpt2", ())])?;
        if json.optional_bool("add_cross_attention")?.unwrap_or(false) {
            return Err(Error::Config {
                field: "add_cross_attention".into(),
                value: "true".into(),
                expected: "wgpt runs decoder-only models: false".into(),
            });
        }
        let n_embd = json.usize("n_embd", 1..=MAX_WIDTH)?;
        let n_head = json.usize("n_head", 1..=n_embd)?;
        if n_embd % n_head != 0 {
            return Err(Error::Config {
                field: "n_head".into(),
                value: n_head.to_string(),
                expected: format!("a divisor of n_embd = {n_embd}"),
            });
        }
        let vocab_size = json.usize("vocab_size", 1..=MAX_VOCAB)?;
        Ok(Gpt2Config {
            vocab_size,
            n_positions: json.usize("n_positions", 1..=MAX_POSITIONS)?,
            n_embd,
            n_layer: json.usize("n_layer", 1..=MAX_LAYERS)?,
            n_head,
            n_inner: json.optional_usize("n_inner", 1..=MAX_WIDTH)?.unwrap_or(4 * n_embd),
            activation: json.one_of("activation_function", ACTIVATIONS)?.unwrap_or(Activation::GeluTanh),
            layer_norm_epsilon: json.optional_f32("layer_norm_epsilon", 0.0..=1.0)?.unwrap_or(1e-5),
            scale_attn_weights: json.optional_bool("scale_attn_weights")?.unwrap_or(true),
            scale_attn_by_inverse_layer_idx: json
                .optional_bool("scale_attn_by_inverse_layer_idx")?
                .unwrap_or(false),
            tie_word_embeddings: json.optional_bool("tie_word_embeddings")?.unwrap_or(true),
            // transformers' default of 50256 stands in configs of models with
            // smaller vocabularies, which never produce it.
            bos_token_id: json.token_ids("bos_token_id")?.into_iter().find(|&id| (id as usize) < vocab_size),
            eos_token_ids: json
                .token_ids("eos_token_id")?
                .into_iter()
                .filter(|&id| (id as usize) < vocab_size)
                .collect(),
        })
    }

    /// Elements of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_head
    }

    /// Factor of q·k in one layer.
    #[must_use]
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let mut scale = 1.0;
        if self.scale_attn_weights {
            scale /= (self.head_dim() as f32).sqrt();
        }
        if self.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f32;
        }
        scale
    }

    /// The residual stream's axis.
    #[must_use]
    pub fn embd(&self) -> Axis {
        Axis::plain(self.n_embd)
    }

    /// The concatenated heads' axis, each head padded.
    #[must_use]
    pub fn heads(&self) -> Axis {
        Axis::grouped(self.n_head, self.head_dim())
    }

    /// The axis of q, k and v: three times the heads.
    #[must_use]
    pub fn qkv(&self) -> Axis {
        Axis::grouped(3 * self.n_head, self.head_dim())
    }

    /// The MLP's axis.
    #[must_use]
    pub fn inner(&self) -> Axis {
        Axis::plain(self.n_inner)
    }

    /// The vocabulary's axis.
    #[must_use]
    pub fn vocab(&self) -> Axis {
        Axis::plain(self.vocab_size)
    }

    /// All tensors of a checkpoint, without the prefix `transformer.`.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let embd = self.embd();
        let mut all = vec![
            TensorSpec::matrix("wte.weight", self.vocab(), embd),
            TensorSpec::matrix("wpe.weight", Axis::plain(self.n_positions), embd),
        ];
        for layer in 0..self.n_layer {
            let name = |part: &str| format!("h.{layer}.{part}");
            all.push(TensorSpec::vector(name("ln_1.weight"), embd));
            all.push(TensorSpec::vector(name("ln_1.bias"), embd));
            all.push(TensorSpec::conv1d(name("attn.c_attn.weight"), self.qkv(), embd));
            all.push(TensorSpec::vector(name("attn.c_attn.bias"), self.qkv()));
            all.push(TensorSpec::conv1d(name("attn.c_proj.weight"), embd, self.heads()));
            all.push(TensorSpec::vector(name("attn.c_proj.bias"), embd));
            all.push(TensorSpec::vector(name("ln_2.weight"), embd));
            all.push(TensorSpec::vector(name("ln_2.bias"), embd));
            all.push(TensorSpec::conv1d(name("mlp.c_fc.weight"), self.inner(), embd));
            all.push(TensorSpec::vector(name("mlp.c_fc.bias"), self.inner()));
            all.push(TensorSpec::conv1d(name("mlp.c_proj.weight"), embd, self.inner()));
            all.push(TensorSpec::vector(name("mlp.c_proj.bias"), embd));
        }
        all.push(TensorSpec::vector("ln_f.weight", embd));
        all.push(TensorSpec::vector("ln_f.bias", embd));
        if !self.tie_word_embeddings {
            all.push(TensorSpec::matrix(LM_HEAD, self.vocab(), embd));
        }
        all
    }

    /// Whether a tensor that [`Gpt2Config::tensors`] does not list may stand in
    /// a checkpoint: the causal mask's buffers, and a head that the config ties
    /// to the embedding (transformers leaves it unread as well).
    #[must_use]
    pub fn ignores(&self, name: &str, shape: &[usize]) -> bool {
        let mask =
            name.strip_prefix("h.").and_then(|rest| rest.split_once('.')).is_some_and(|(layer, part)| {
                (part == "attn.bias" || part == "attn.masked_bias")
                    && layer.parse().is_ok_and(|layer: usize| layer < self.n_layer)
            });
        let head = name == LM_HEAD && shape == [self.vocab_size, self.n_embd];
        mask || (self.tie_word_embeddings && head)
    }

    /// Number of weights.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.tensors().iter().map(|spec| spec.shape().iter().map(|&n| n as u64).product::<u64>()).sum()
    }
}

/// The output head's name; it never bears the prefix.
pub const LM_HEAD: &str = "lm_head.weight";

/// How a tensor lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[n]`
    Vector,
    /// `[rows, columns]`, as on the GPU.
    RowMajor,
    /// `[columns, rows]`: GPT-2's Conv1D, turned while loading.
    Transposed,
}

/// A tensor that a checkpoint must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name without the prefix.
    pub name: String,
    /// Output features; the elements of a vector.
    pub rows: Axis,
    /// Input features; a single one for a vector.
    pub columns: Axis,
    /// How it lies in the file.
    pub layout: Layout,
}

impl TensorSpec {
    fn vector(name: impl Into<String>, axis: Axis) -> Self {
        TensorSpec { name: name.into(), rows: axis, columns: Axis::plain(1), layout: Layout::Vector }
    }

    fn matrix(name: impl Into<String>, rows: Axis, columns: Axis) -> Self {
        TensorSpec { name: name.into(), rows, columns, layout: Layout::RowMajor }
    }

    fn conv1d(name: impl Into<String>, rows: Axis, columns: Axis) -> Self {
        TensorSpec { name: name.into(), rows, columns, layout: Layout::Transposed }
    }

    /// The shape in the file.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        match self.layout {
            Layout::Vector => vec![self.rows.len()],
            Layout::RowMajor => vec![self.rows.len(), self.columns.len()],
            Layout::Transposed => vec![self.columns.len(), self.rows.len()],
        }
    }
}
