//! The description of a decoder-only transformer. Every architecture fills it in from its
//! `config.json`. Everything else follows from it: tensors, sizes, the order of a pass.

mod describe;
mod tensors;

use serde::Serialize;

use super::rope::{Pairing, Rope};
use super::spec::HeadSources;
use crate::error::{Error, Result};
use crate::kernels::{Activation, NormForm, POSITIONS_MAX, TAGS_MAX};
use crate::tensor::Axis;

/// Bounds on config values, so that a damaged file cannot cause absurd allocations. Each
/// is far above any published model.
pub(super) const MAX_VOCAB: usize = 1 << 24;
pub(super) const MAX_POSITIONS: usize = 1 << 20;
pub(super) const MAX_WIDTH: usize = 1 << 17;
pub(super) const MAX_LAYERS: usize = 1 << 12;
// The overflow flag must be able to encode every position and layer.
const _: () = assert!(MAX_POSITIONS <= POSITIONS_MAX && MAX_LAYERS <= TAGS_MAX);

/// Default context length, unless the model's own is shorter. The longest contexts of
/// current models would take more memory than most devices have.
const N_CTX_DEFAULT: usize = 8192;

/// A decoder-only transformer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoder {
    /// The architecture's name: `model_type` of `config.json`.
    pub architecture: &'static str,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest context, in positions.
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// End-of-text tokens.
    pub eos_token_ids: Vec<u32>,
    /// The embedding of tokens and positions.
    pub embedding: Embedding,
    /// The norms of the model.
    pub norms: Norms,
    /// The arrangement of a block's norms and residual sums.
    pub residual: Residual,
    /// A block's attention.
    pub attention: Attention,
    /// A block's MLP.
    pub mlp: Mlp,
    /// The head: from the residual stream to logits.
    pub head: Head,
    /// Prefix of the tensor names, except the head's. A file may omit it.
    #[serde(skip)]
    pub prefix: &'static str,
    /// Prefix of the names of a block's tensors; `{}` is the block's number.
    #[serde(skip)]
    pub layer_prefix: &'static str,
    /// Names of buffers in a block that older files contain. They are ignored.
    #[serde(skip)]
    pub ignored: &'static [&'static str],
}

/// The embedding: from token ids to the residual stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    /// Name of the token embedding, `[vocab_size, n_embd]`.
    #[serde(skip)]
    pub tokens: &'static str,
    /// Factor on the token embedding.
    pub scale: f32,
    /// Learned position embedding, added to the token embedding.
    pub positions: Option<LearnedPositions>,
}

impl Embedding {
    /// Returns an embedding of tokens only.
    pub(super) const fn tokens(tokens: &'static str) -> Self {
        Embedding { tokens, scale: 1.0, positions: None }
    }

    /// Returns an embedding with learned positions. The first `skipped` rows belong to no
    /// position.
    pub(super) const fn learned(tokens: &'static str, positions: &'static str, skipped: usize) -> Self {
        let positions = Some(LearnedPositions { name: positions, skipped });
        Embedding { positions, ..Embedding::tokens(tokens) }
    }
}

/// A learned position embedding, `[skipped + n_positions, n_embd]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearnedPositions {
    /// Name of the tensor.
    #[serde(skip)]
    pub name: &'static str,
    /// Number of rows before the row of position 0.
    pub skipped: usize,
}

/// The norms of a model. All have the same kind and epsilon.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Norms {
    /// The kind of norm.
    pub kind: NormForm,
    /// Added to the variance, or to the mean square.
    pub epsilon: f32,
    /// Whether the file stores the weights minus 1.
    pub plus_one: bool,
}

impl Norms {
    /// Returns layer norms with weight and bias.
    pub(super) fn layer(epsilon: f32) -> Self {
        Norms { kind: NormForm::Layer, epsilon, plus_one: false }
    }

    /// Returns RMSNorms.
    pub(super) fn rms(epsilon: f32) -> Self {
        Norms { kind: NormForm::Rms, epsilon, plus_one: false }
    }
}

/// The arrangement of a block's norms and residual sums, with the names of the norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Residual {
    /// `x += attention(norm(x)); x += mlp(norm(x))`
    Sequential {
        /// The norm before attention.
        #[serde(skip)]
        attention: &'static str,
        /// The norm before the MLP.
        #[serde(skip)]
        mlp: &'static str,
    },
    /// `x += norm(attention(norm(x))); x += norm(mlp(norm(x)))`: Gemma 2 and 3.
    Sandwich {
        /// The norms before and after attention.
        #[serde(skip)]
        attention: [&'static str; 2],
        /// The norms before and after the MLP.
        #[serde(skip)]
        mlp: [&'static str; 2],
    },
    /// `x += attention(norm(x)) + mlp(norm(x))`, both from the same x: GPT-NeoX. GPT-J
    /// and Phi use one norm for both.
    Parallel {
        /// The norm before attention.
        #[serde(skip)]
        attention: &'static str,
        /// The norm before the MLP; `None` if it is the same norm.
        #[serde(skip)]
        mlp: Option<&'static str>,
    },
}

/// A block's attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// Number of q heads.
    pub n_head: usize,
    /// Number of k heads, and of v heads; divides `n_head`.
    pub n_kv_head: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Factor on q·k.
    pub scale: f32,
    /// Whether the factor is divided by the layer's number, counted from 1.
    pub scale_by_layer: bool,
    /// Caps the scaled scores: `cap * tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// Rotary embeddings; layer `i` uses number `layers[i].rope`.
    pub ropes: Vec<Rope>,
    /// Settings that differ from layer to layer.
    pub layers: Vec<LayerAttention>,
    /// Names of the norms of q heads and of k heads, which precede the rotation.
    pub qk_norm: Option<[&'static str; 2]>,
    /// The projections to q, k and v.
    #[serde(skip)]
    pub qkv: Qkv,
    /// The projection onto the residual stream.
    #[serde(skip)]
    pub out: Linear,
}

/// The attention settings of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerAttention {
    /// Positions that a position sees, including itself; `None` for all.
    pub window: Option<usize>,
    /// Index of its rotary embedding.
    pub rope: usize,
}

/// A linear map, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Name without `.weight`.
    pub name: &'static str,
    /// Whether it has a bias.
    pub bias: bool,
    /// Whether the file stores it as `[in, out]`.
    pub transposed: bool,
}

impl Linear {
    /// Returns a map stored as `[out, in]`, like torch's Linear.
    pub(super) const fn new(name: &'static str, bias: bool) -> Self {
        Linear { name, bias, transposed: false }
    }

    /// Returns a map stored as `[in, out]`, with a bias, like GPT-2's Conv1D.
    pub(super) const fn conv1d(name: &'static str) -> Self {
        Linear { name, bias: true, transposed: true }
    }
}

/// The projections to q, k and v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// One projection each.
    Separate([Linear; 3]),
    /// One projection for all three, in an order of [`HeadSources`].
    Fused(Linear, HeadSources),
}

impl Qkv {
    /// Returns one projection each, stored like torch's Linear.
    pub(super) fn separate(names: [&'static str; 3], bias: bool) -> Self {
        Qkv::Separate(names.map(|name| Linear::new(name, bias)))
    }
}

/// A block's MLP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mlp {
    /// Its width.
    pub n_inner: usize,
    /// Its activation function, which applies to the gate if there is one.
    pub activation: Activation,
    /// The up projections.
    pub up: Up,
    /// The down projection.
    #[serde(skip)]
    pub down: Linear,
}

/// The up projections of an MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// `activate(up(x))`
    Plain(#[serde(skip)] Linear),
    /// `activate(gate(x)) * up(x)` (Shazeer 2020); the maps are gate, then up.
    Gated(#[serde(skip)] [Linear; 2]),
    /// As `Gated`, with both maps in one matrix, the gate first.
    GatedFused(#[serde(skip)] Linear),
}

/// The head: from the residual stream to logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Head {
    /// Name of the norm before the head.
    #[serde(skip)]
    pub norm: &'static str,
    /// Name of the matrix, `[vocab_size, n_embd]`, without `.weight` and without prefix.
    #[serde(skip)]
    pub name: &'static str,
    /// Whether the matrix is the token embedding.
    pub tied: bool,
    /// Whether it has a bias.
    pub bias: bool,
    /// Caps the logits: `cap * tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
}

impl Head {
    /// Returns a head without bias or cap.
    pub(super) const fn new(norm: &'static str, name: &'static str, tied: bool) -> Self {
        Head { norm, name, tied, bias: false, soft_cap: None }
    }
}

impl Decoder {
    /// Returns the axis of the residual stream.
    #[must_use]
    pub fn embd(&self) -> Axis {
        Axis::plain(self.n_embd)
    }

    /// Returns the axis of the concatenated q heads, each padded.
    #[must_use]
    pub fn heads(&self) -> Axis {
        Axis::grouped(self.attention.n_head, self.attention.head_dim)
    }

    /// Returns the axis of the q, k and v heads.
    #[must_use]
    pub fn qkv(&self) -> Axis {
        let Attention { n_head, n_kv_head, head_dim, .. } = self.attention;
        Axis::grouped(n_head + 2 * n_kv_head, head_dim)
    }

    /// Returns the axis of the MLP.
    #[must_use]
    pub fn inner(&self) -> Axis {
        Axis::plain(self.mlp.n_inner)
    }

    /// Returns the rows of the up matrix: the padded width of the MLP, or twice that with
    /// a gate.
    #[must_use]
    pub fn up_rows(&self) -> usize {
        self.inner().padded_len() * if self.is_gated() { 2 } else { 1 }
    }

    /// Returns whether the MLP has a gate.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        !matches!(self.mlp.up, Up::Plain(_))
    }

    /// Returns the axis of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> Axis {
        Axis::plain(self.vocab_size)
    }

    /// Returns the factor on q·k in one layer.
    #[must_use]
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let Attention { scale, scale_by_layer, .. } = self.attention;
        if scale_by_layer { scale / (layer + 1) as f32 } else { scale }
    }

    /// Returns the number of positions that one layer sees; `None` for all.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.attention.layers[layer].window
    }

    /// Returns the element order of rotated heads in the file.
    fn pairing(&self) -> Pairing {
        self.attention.ropes.first().map_or(Pairing::AsIs, |rope| rope.pairing)
    }

    /// Returns the number of parameters.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.tensors().iter().map(super::spec::TensorSpec::n_parameters).sum()
    }

    /// Returns the default context length.
    #[must_use]
    pub fn default_n_ctx(&self) -> usize {
        self.n_positions.min(N_CTX_DEFAULT)
    }

    /// Checks the properties that all architectures share.
    pub(super) fn checked(self) -> Result<Self> {
        let Attention { n_head, n_kv_head, .. } = self.attention;
        if !n_head.is_multiple_of(n_kv_head) {
            return Err(Error::Config {
                field: "num_key_value_heads".into(),
                value: n_kv_head.to_string(),
                expected: format!("a divisor of the {n_head} attention heads"),
            });
        }
        Ok(self)
    }
}
