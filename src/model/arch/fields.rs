//! Config fields that several architectures share.

use crate::checkpoint::ConfigJson;
use crate::error::Result;
use crate::kernels::Activation;
use crate::model::decoder::{
    Attention, Decoder, Embedding, Head, LayerAttention, Linear, MAX_LAYERS, MAX_POSITIONS, MAX_VOCAB,
    MAX_WIDTH, Mlp, Norms, Qkv, Residual,
};
use crate::model::rope::Rope;

/// Values of an activation field, and their meanings.
const ACTIVATIONS: &[(&str, Activation)] = &[
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
];

/// Fields that do not affect logits at inference: settings of training, of the file, of
/// other tasks, and of how transformers runs.
const CHANGES_NOTHING: &[&str] = &[
    "architectures",
    "auto_map",
    "dtype",
    "torch_dtype",
    "use_cache",
    "initializer_range",
    "initializer_factor",
    "init_std",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "forced_eos_token_id",
    "tokenizer_class",
    "gradient_checkpointing",
    "gradient_checkpointing_use_reentrant",
    "finetuning_task",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "task_specific_params",
    "attn_implementation",
    "cache_implementation",
    "hybrid_kvcache",
    "is_llama_config",
    "pretraining_tp",
    "attention_softmax_in_fp32",
    "scale_attention_softmax_in_fp32",
    "reorder_and_upcast_attn",
    "router_aux_loss_coef",
    "layerdrop",
    "n_ctx",
    "max_length",
    "min_length",
    "do_sample",
    "temperature",
    "top_p",
    "top_k",
    "num_beams",
    "repetition_penalty",
    "length_penalty",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "use_bfloat16",
    "inference_runner",
    "validate_runner_input",
    "pre_allocate_kv_cache",
    "max_sequence_length",
    "max_batch_size",
    "model_max_length",
    "bos_token",
    "eos_token",
];

/// Returns whether a field does not affect logits.
pub(super) fn changes_nothing(field: &str) -> bool {
    CHANGES_NOTHING.contains(&field)
        || field.starts_with('_')
        || field.starts_with("summary_")
        || field.starts_with("unsloth_")
        || field.ends_with("_version")
        || field.ends_with("dropout")
        || field.ends_with("pdrop")
}

/// The most common names of the projections to q, k and v.
pub(super) const SELF_ATTN: [&str; 3] = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];

/// The names of the size fields.
pub(super) struct Names {
    n_embd: &'static str,
    n_layer: &'static str,
    n_head: &'static str,
    n_positions: &'static str,
    n_inner: &'static str,
    /// Whether a missing MLP width means four times the width of the residual stream.
    /// Otherwise the field is required, because other classes have a default that fits
    /// only one model.
    n_inner_follows: bool,
}

impl Names {
    /// Names of Llama and most others.
    pub(super) const LLAMA: Names = Names {
        n_embd: "hidden_size",
        n_layer: "num_hidden_layers",
        n_head: "num_attention_heads",
        n_positions: "max_position_embeddings",
        n_inner: "intermediate_size",
        n_inner_follows: false,
    };
    /// Names of GPT-2 and its descendants.
    pub(super) const GPT2: Names = Names {
        n_embd: "n_embd",
        n_layer: "n_layer",
        n_head: "n_head",
        n_positions: "n_positions",
        n_inner: "n_inner",
        n_inner_follows: true,
    };
    /// Names of GPT-Neo.
    pub(super) const GPT_NEO: Names =
        Names { n_layer: "num_layers", n_head: "num_heads", n_inner_follows: true, ..Names::LLAMA };
    /// Names of OPT.
    pub(super) const OPT: Names = Names { n_inner: "ffn_dim", ..Names::LLAMA };
}

/// The sizes that every config contains.
pub(super) struct Sizes<'a> {
    json: &'a ConfigJson,
    names: Names,
    pub(super) vocab_size: usize,
    pub(super) n_positions: usize,
    pub(super) n_embd: usize,
    pub(super) n_layer: usize,
    pub(super) n_head: usize,
    pub(super) n_inner: usize,
    pub(super) bos_token_id: Option<u32>,
    pub(super) eos_token_ids: Vec<u32>,
}

impl<'a> Sizes<'a> {
    pub(super) fn read(json: &'a ConfigJson, names: Names) -> Result<Self> {
        let n_embd = json.usize(names.n_embd, 1..=MAX_WIDTH)?;
        let vocab_size = json.usize("vocab_size", 1..=MAX_VOCAB)?;
        let n_inner = if names.n_inner_follows {
            json.optional_usize(names.n_inner, 1..=MAX_WIDTH)?.unwrap_or(4 * n_embd)
        } else {
            json.usize(names.n_inner, 1..=MAX_WIDTH)?
        };
        // Configs of models with smaller vocabularies contain transformers' default ids.
        // Such models never produce these ids.
        let ids = |field| -> Result<Vec<u32>> {
            Ok(json.token_ids(field)?.into_iter().filter(|&id| (id as usize) < vocab_size).collect())
        };
        Ok(Sizes {
            json,
            vocab_size,
            n_positions: json.usize(names.n_positions, 1..=MAX_POSITIONS)?,
            n_embd,
            n_layer: json.usize(names.n_layer, 1..=MAX_LAYERS)?,
            n_head: json.usize(names.n_head, 1..=MAX_WIDTH)?,
            n_inner,
            bos_token_id: ids("bos_token_id")?.first().copied(),
            eos_token_ids: ids("eos_token_id")?,
            names,
        })
    }

    /// Returns the elements per head: an even share of the width.
    pub(super) fn head_dim(&self) -> Result<usize> {
        if self.n_embd.is_multiple_of(self.n_head) {
            return Ok(self.n_embd / self.n_head);
        }
        let expected = format!("a divisor of {} = {}", self.names.n_embd, self.n_embd);
        Err(self.json.fault(self.names.n_head, expected))
    }

    /// Returns the elements per head: `head_dim`, or else the class's default, or else an
    /// even share of the width.
    pub(super) fn explicit_head_dim(&self, default: Option<usize>) -> Result<usize> {
        match self.json.optional_usize("head_dim", 1..=MAX_WIDTH)?.or(default) {
            Some(head_dim) => Ok(head_dim),
            None => self.head_dim(),
        }
    }

    /// Returns the number of k heads, which is also the number of v heads. It equals the
    /// number of q heads if the field is `null`, or if it is absent and has no default.
    pub(super) fn n_kv_head(&self, default: Option<usize>) -> Result<usize> {
        let field = "num_key_value_heads";
        let found = self.json.optional_usize(field, 1..=self.n_head)?;
        Ok(found.or(absent(self.json, field, default)).unwrap_or(self.n_head))
    }

    /// Builds a model of these sizes. The scaling of its rotary embedding may extend its
    /// context.
    pub(super) fn decoder(self, architecture: &'static str, parts: Parts) -> Decoder {
        let Parts { prefix, layer_prefix, ignored, embedding, norms, residual, attention, mlp, head } = parts;
        let rope = attention.ropes.first();
        Decoder {
            architecture,
            vocab_size: self.vocab_size,
            n_positions: rope.map_or(self.n_positions, |rope| rope.n_positions(self.n_positions)),
            n_embd: self.n_embd,
            n_layer: self.n_layer,
            bos_token_id: self.bos_token_id,
            eos_token_ids: self.eos_token_ids,
            embedding,
            norms,
            residual,
            attention,
            mlp,
            head,
            prefix,
            layer_prefix,
            ignored,
        }
    }
}

/// The parts of an architecture besides the sizes. They are the fields of [`Decoder`]
/// with the same names.
pub(super) struct Parts {
    pub(super) prefix: &'static str,
    pub(super) layer_prefix: &'static str,
    pub(super) ignored: &'static [&'static str],
    pub(super) embedding: Embedding,
    pub(super) norms: Norms,
    pub(super) residual: Residual,
    pub(super) attention: Attention,
    pub(super) mlp: Mlp,
    pub(super) head: Head,
}

/// Reads the activation function in `field`.
pub(super) fn activation(json: &ConfigJson, field: &str, default: Activation) -> Result<Activation> {
    Ok(json.one_of(field, ACTIVATIONS)?.unwrap_or(default))
}

/// Reads the epsilon in `field`.
pub(super) fn epsilon(json: &ConfigJson, field: &str, default: f32) -> Result<f32> {
    Ok(json.optional_f32(field, 0.0..=1.0)?.unwrap_or(default))
}

/// Reads the boolean in `field`.
pub(super) fn flag(json: &ConfigJson, field: &str, default: bool) -> Result<bool> {
    Ok(json.optional_bool(field)?.unwrap_or(default))
}

/// Returns a class's default if the field is absent, and `None` if it is `null`.
fn absent<T>(json: &ConfigJson, field: &str, default: Option<T>) -> Option<T> {
    default.filter(|_| !json.contains(field))
}

/// Reads the positive cap in `field`; `None` for no cap.
pub(super) fn soft_cap(json: &ConfigJson, field: &str, default: Option<f32>) -> Result<Option<f32>> {
    Ok(json.optional_f32(field, 1e-3..=1e6)?.or(absent(json, field, default)))
}

/// Checks that a flag has the only value that wgpt supports.
///
/// # Errors
/// [`crate::Error::Config`] for the other value.
pub(super) fn must_be(json: &ConfigJson, field: &str, value: bool, why: &str) -> Result<()> {
    match json.optional_bool(field)? {
        Some(found) if found != value => Err(json.fault(field, format!("{value}: {why}"))),
        _ => Ok(()),
    }
}

/// Reads the share of a head that is rotated; returns its number of elements.
pub(super) fn n_rot(json: &ConfigJson, field: &str, head_dim: usize, default: f64) -> Result<usize> {
    let share = json.optional_f64(field, 0.0..=1.0)?.unwrap_or(default);
    let n_rot = (share * head_dim as f64) as usize;
    if n_rot.is_multiple_of(2) {
        Ok(n_rot)
    } else {
        Err(json.fault(field, "a share with an even number of elements"))
    }
}

/// Reads the number of positions in the window from `field`; `None` for no window.
pub(super) fn window(json: &ConfigJson, field: &str, default: Option<usize>) -> Result<Option<usize>> {
    Ok(json.optional_usize(field, 1..=usize::MAX)?.or(absent(json, field, default)))
}

impl Attention {
    /// Creates attention without windows and without rotation. The factor on q·k is `1 /
    /// sqrt(head_dim)`.
    pub(super) fn new(sizes: &Sizes<'_>, [n_kv_head, head_dim]: [usize; 2], qkv: Qkv, out: Linear) -> Self {
        Attention {
            n_head: sizes.n_head,
            n_kv_head,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            scale_by_layer: false,
            soft_cap: None,
            ropes: Vec::new(),
            layers: vec![LayerAttention::default(); sizes.n_layer],
            qk_norm: None,
            qkv,
            out,
        }
    }

    /// Uses one rotary embedding in all layers.
    pub(super) fn rotary(self, rope: Rope) -> Self {
        Attention { ropes: vec![rope], ..self }
    }

    /// Sets the window of the layers for which `windowed` is true; the others get none.
    pub(super) fn windows(mut self, window: Option<usize>, windowed: impl Fn(usize) -> bool) -> Self {
        for (i, layer) in self.layers.iter_mut().enumerate() {
            layer.window = window.filter(|_| windowed(i));
        }
        self
    }
}

/// Reads `layer_types` of newer configs, and returns whether each layer has a window.
///
/// # Errors
/// [`crate::Error::Config`] for other kinds of layers, or a list of the wrong length.
pub(super) fn layer_types(json: &ConfigJson, n_layer: usize) -> Result<Option<Vec<bool>>> {
    windowed_layers(json, "layer_types", ["full_attention", "sliding_attention"], n_layer)
}

/// Reads a list that names each layer `full` or `windowed`, and returns whether each one
/// is windowed.
///
/// # Errors
/// As [`layer_types`].
pub(super) fn windowed_layers(
    json: &ConfigJson,
    field: &str,
    [full, windowed]: [&str; 2],
    n_layer: usize,
) -> Result<Option<Vec<bool>>> {
    let Some(value) = json.value(field) else { return Ok(None) };
    let kinds: Option<Vec<bool>> = value.as_array().and_then(|kinds| {
        let kind = |kind: &str| [full, windowed].iter().position(|known| *known == kind).map(|at| at == 1);
        kinds.iter().map(|value| value.as_str().and_then(kind)).collect()
    });
    let expected = || format!("a list of {n_layer} words, {full} or {windowed}");
    kinds.filter(|kinds| kinds.len() == n_layer).map(Some).ok_or_else(|| json.fault(field, expected()))
}
