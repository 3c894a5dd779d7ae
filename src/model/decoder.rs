//! What a decoder-only transformer is made of: one description, which every
//! architecture fills in from its `config.json` and from which everything else
//! follows: tensors, sizes, the order of a pass.

mod describe;
mod tensors;

use serde::Serialize;

use super::rope::{Pairing, Rope};
use super::spec::HeadSources;
use crate::error::{Error, Result};
use crate::kernels::{Activation, Norm, POSITIONS_MAX, TAGS_MAX};
use crate::tensor::Axis;

/// Bounds of what a config may ask for, so that a damaged file cannot lead to
/// absurd allocations; each is far above any published model.
pub(super) const MAX_VOCAB: usize = 1 << 24;
pub(super) const MAX_POSITIONS: usize = 1 << 20;
pub(super) const MAX_WIDTH: usize = 1 << 17;
pub(super) const MAX_LAYERS: usize = 1 << 12;
// What the flag of overflows in the cache has room for.
const _: () = assert!(MAX_POSITIONS <= POSITIONS_MAX && MAX_LAYERS <= TAGS_MAX);

/// Positions of the context where nobody asks for more and the model has them: the
/// longest of today's models would take more memory than most devices have.
const N_CTX_DEFAULT: usize = 8192;

/// A decoder-only transformer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoder {
    /// The architecture's name: `model_type` of `config.json`.
    pub architecture: &'static str,
    /// Tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// The token that begins a text.
    pub bos_token_id: Option<u32>,
    /// End-of-text tokens.
    pub eos_token_ids: Vec<u32>,
    /// From token ids to the residual stream.
    pub embedding: Embedding,
    /// All norms of the model.
    pub norms: Norms,
    /// Where a block's norms stand, and what is added to what.
    pub residual: Residual,
    /// A block's attention.
    pub attention: Attention,
    /// A block's MLP.
    pub mlp: Mlp,
    /// From the residual stream to logits.
    pub head: Head,
    /// What tensor names begin with, the head's apart; a file may leave it out.
    #[serde(skip)]
    pub prefix: &'static str,
    /// What the names of a block's tensors begin with; `{}` is its number.
    #[serde(skip)]
    pub layer_prefix: &'static str,
    /// Names of a block's buffers that older files carry and nobody reads.
    #[serde(skip)]
    pub ignored: &'static [&'static str],
}

/// From token ids to the residual stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    /// Name of the tokens' vectors, `[vocab_size, n_embd]`.
    #[serde(skip)]
    pub tokens: &'static str,
    /// Factor of the tokens' vectors.
    pub scale: f32,
    /// Learned vectors of positions, added to those.
    pub positions: Option<LearnedPositions>,
}

impl Embedding {
    /// Tokens alone.
    pub(super) const fn tokens(tokens: &'static str) -> Self {
        Embedding { tokens, scale: 1.0, positions: None }
    }

    /// With learned positions, of which the first `skipped` rows belong to none.
    pub(super) const fn learned(tokens: &'static str, positions: &'static str, skipped: usize) -> Self {
        let positions = Some(LearnedPositions { name: positions, skipped });
        Embedding { positions, ..Embedding::tokens(tokens) }
    }
}

/// `[skipped + n_positions, n_embd]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LearnedPositions {
    /// Name.
    #[serde(skip)]
    pub name: &'static str,
    /// Rows in front of that of position 0.
    pub skipped: usize,
}

/// The norms of a model, which are all alike.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Norms {
    /// Which.
    pub kind: Norm,
    /// Added to the variance, or to the mean square.
    pub epsilon: f32,
    /// Whether the file holds the factors' distance to 1.
    pub plus_one: bool,
}

impl Norms {
    /// A layer norm with weight and bias.
    pub(super) fn layer(epsilon: f32) -> Self {
        Norms { kind: Norm::Layer, epsilon, plus_one: false }
    }

    /// An RMSNorm.
    pub(super) fn rms(epsilon: f32) -> Self {
        Norms { kind: Norm::Rms, epsilon, plus_one: false }
    }
}

/// Where the norms of a block stand, by name, and what is added to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Residual {
    /// `x += attention(norm(x)); x += mlp(norm(x))`
    Sequential {
        /// In front of attention.
        #[serde(skip)]
        attention: &'static str,
        /// In front of the MLP.
        #[serde(skip)]
        mlp: &'static str,
    },
    /// `x += norm(attention(norm(x))); x += norm(mlp(norm(x)))`: Gemma 2 and 3.
    Sandwich {
        /// In front of and behind attention.
        #[serde(skip)]
        attention: [&'static str; 2],
        /// In front of and behind the MLP.
        #[serde(skip)]
        mlp: [&'static str; 2],
    },
    /// `x += attention(norm(x)) + mlp(norm(x))`, of the same x: GPT-NeoX; GPT-J and
    /// Phi with one norm for both.
    Parallel {
        /// In front of attention.
        #[serde(skip)]
        attention: &'static str,
        /// In front of the MLP; `None` where it is the same norm.
        #[serde(skip)]
        mlp: Option<&'static str>,
    },
}

/// A block's attention.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// Heads of q.
    pub n_head: usize,
    /// Heads of k and v; divides `n_head`.
    pub n_kv_head: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor of q·k.
    pub scale: f32,
    /// Whether the factor is divided by the layer's number, from 1.
    pub scale_by_layer: bool,
    /// `cap * tanh(score / cap)` of the scaled scores.
    pub soft_cap: Option<f32>,
    /// Rotary embeddings; a layer's is `layers[i].rope` of them.
    pub ropes: Vec<Rope>,
    /// What differs from layer to layer.
    pub layers: Vec<LayerAttention>,
    /// Names of the norms of the heads of q and of k, in front of the rotation.
    pub qk_norm: Option<[&'static str; 2]>,
    /// The projections to q, k and v.
    #[serde(skip)]
    pub qkv: Qkv,
    /// The projection onto the residual stream.
    #[serde(skip)]
    pub out: Linear,
}

/// Attention of one layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerAttention {
    /// A position sees itself and the positions in front of it, so many in all.
    pub window: Option<usize>,
    /// Index of its rotary embedding.
    pub rope: usize,
}

/// A linear map by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Name without `.weight`.
    pub name: &'static str,
    /// Whether there is a bias.
    pub bias: bool,
    /// Whether the file holds it as `[in, out]`.
    pub transposed: bool,
}

impl Linear {
    /// `[out, in]`, as torch's Linear.
    pub(super) const fn new(name: &'static str, bias: bool) -> Self {
        Linear { name, bias, transposed: false }
    }

    /// `[in, out]` with a bias: GPT-2's Conv1D.
    pub(super) const fn conv1d(name: &'static str) -> Self {
        Linear { name, bias: true, transposed: true }
    }
}

/// The projections to q, k and v.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qkv {
    /// One each.
    Separate([Linear; 3]),
    /// One for all, ordered in one of the ways of [`HeadSources`].
    Fused(Linear, HeadSources),
}

impl Qkv {
    /// One each, as torch's Linear.
    pub(super) fn separate(names: [&'static str; 3], bias: bool) -> Self {
        Qkv::Separate(names.map(|name| Linear::new(name, bias)))
    }
}

/// A block's MLP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mlp {
    /// Its width.
    pub n_inner: usize,
    /// Its activation function; the gate's where it has one.
    pub activation: Activation,
    /// The projections up.
    pub up: Up,
    /// The projection down.
    #[serde(skip)]
    pub down: Linear,
}

/// The projections of an MLP up to its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Up {
    /// `activate(up(x))`
    Plain(#[serde(skip)] Linear),
    /// `activate(gate(x)) * up(x)`: gate, then up (Shazeer 2020).
    Gated(#[serde(skip)] [Linear; 2]),
    /// The same with both in one matrix, the gate in front.
    GatedFused(#[serde(skip)] Linear),
}

/// From the residual stream to logits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Head {
    /// Name of the norm in front.
    #[serde(skip)]
    pub norm: &'static str,
    /// Name of the matrix, `[vocab_size, n_embd]`, without `.weight` and without prefix.
    #[serde(skip)]
    pub name: &'static str,
    /// Whether it is the token embedding.
    pub tied: bool,
    /// Whether there is a bias.
    pub bias: bool,
    /// `cap * tanh(logit / cap)`
    pub soft_cap: Option<f32>,
}

impl Head {
    /// Without bias and cap.
    pub(super) const fn new(norm: &'static str, name: &'static str, tied: bool) -> Self {
        Head { norm, name, tied, bias: false, soft_cap: None }
    }
}

impl Decoder {
    /// The residual stream's axis.
    #[must_use]
    pub fn embd(&self) -> Axis {
        Axis::plain(self.n_embd)
    }

    /// The concatenated heads of q, each padded.
    #[must_use]
    pub fn heads(&self) -> Axis {
        Axis::grouped(self.attention.n_head, self.attention.head_dim)
    }

    /// The heads of q, of k and of v.
    #[must_use]
    pub fn qkv(&self) -> Axis {
        let Attention { n_head, n_kv_head, head_dim, .. } = self.attention;
        Axis::grouped(n_head + 2 * n_kv_head, head_dim)
    }

    /// The MLP's axis.
    #[must_use]
    pub fn inner(&self) -> Axis {
        Axis::plain(self.mlp.n_inner)
    }

    /// Rows of the matrix up to the MLP's width: twice that where it has a gate.
    #[must_use]
    pub fn up_rows(&self) -> usize {
        self.inner().padded_len() * if self.is_gated() { 2 } else { 1 }
    }

    /// Whether the MLP has a gate.
    #[must_use]
    pub fn is_gated(&self) -> bool {
        !matches!(self.mlp.up, Up::Plain(_))
    }

    /// The vocabulary's axis.
    #[must_use]
    pub fn vocab(&self) -> Axis {
        Axis::plain(self.vocab_size)
    }

    /// Factor of q·k in one layer.
    #[must_use]
    pub fn attention_scale(&self, layer: usize) -> f32 {
        let Attention { scale, scale_by_layer, .. } = self.attention;
        if scale_by_layer { scale / (layer + 1) as f32 } else { scale }
    }

    /// Positions that one layer sees; `None` for all.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.attention.layers[layer].window
    }

    /// The element order of the rotated heads in the file.
    fn pairing(&self) -> Pairing {
        self.attention.ropes.first().map_or(Pairing::AsIs, |rope| rope.pairing)
    }

    /// Number of weights.
    #[must_use]
    pub fn n_parameters(&self) -> u64 {
        self.tensors().iter().map(super::spec::TensorSpec::n_parameters).sum()
    }

    /// Positions of a context where nobody asks for another one.
    #[must_use]
    pub fn default_n_ctx(&self) -> usize {
        self.n_positions.min(N_CTX_DEFAULT)
    }

    /// What no architecture's file need look at.
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
