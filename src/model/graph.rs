//! The order of a GPT-2 pass: which kernel follows which, on which buffers.

use super::ModelOptions;
use super::dims::{BATCH_OFFSET, Dims, HEAD_STEP_OFFSET, Slot};
use super::gpt2::Gpt2Config;
use super::kv_cache::KvPool;
use super::loader::{LayerWeights, Linear, Weights};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Recorder};
use crate::kernels::{
    Activation, Attention, Batch, Choices, Matmul, Op, PagedKv, Scratch, Step, StepRows, attention_decode,
    attention_prefill, embedding, gemm, gemv, kv_append, layer_norm,
};

/// Which kernels a pass is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Any number of rows, neighbours of one sequence.
    Prefill,
    /// Rows of any sequences, that many for each pass over the weights.
    Decode {
        /// One of [`gemv::BATCHES`].
        batch: usize,
    },
}

/// What recording needs to know.
pub(super) struct Graph<'a> {
    pub(super) config: &'a Gpt2Config,
    pub(super) options: &'a ModelOptions,
    pub(super) choices: &'a Choices,
    pub(super) buffers: &'a [GpuBuffer],
    pub(super) pool: &'a KvPool,
    pub(super) dims: &'a Dims,
}

impl<'a> Graph<'a> {
    pub(super) fn slot(&self, slot: Slot) -> &'a GpuBuffer {
        &self.buffers[slot as usize]
    }

    fn step(&self, offset: u64) -> BoundBuffer<'a> {
        BoundBuffer::range(self.slot(Slot::Step), offset, size_of::<Step>() as u64)
    }

    fn rows(&self, phase: Phase) -> StepRows<'a> {
        let batch = BoundBuffer::range(self.slot(Slot::Step), BATCH_OFFSET, size_of::<Batch>() as u64);
        StepRows { step: self.step(0), batch: (phase != Phase::Prefill).then_some(batch) }
    }

    pub(super) fn embed(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        weights: &Weights,
    ) -> Result<()> {
        let op = embedding::Embedding {
            rows: self.rows(phase),
            token_ids: self.slot(Slot::TokenIds),
            wte: &weights.wte,
            wpe: &weights.wpe,
            out: self.slot(Slot::X),
        };
        embedding::record(recorder, &op)
    }

    pub(super) fn layer(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        layer: usize,
        weights: &LayerWeights,
    ) -> Result<()> {
        use Slot::{Attention as Heads, Inner, Normed, Qkv, X};
        self.norm(recorder, &weights.ln_1)?;
        self.linear(recorder, phase, Normed, &weights.c_attn, Activation::None, false, Qkv)?;
        self.attention(recorder, phase, layer)?;
        self.linear(recorder, phase, Heads, &weights.c_proj, Activation::None, true, X)?;
        self.norm(recorder, &weights.ln_2)?;
        self.linear(recorder, phase, Normed, &weights.c_fc, self.config.activation, false, Inner)?;
        self.linear(recorder, phase, Inner, &weights.mlp_proj, Activation::None, true, X)
    }

    fn norm(&self, recorder: &mut Recorder<'_>, scale: &GpuBuffer) -> Result<()> {
        let op = layer_norm::LayerNorm {
            step: self.step(0),
            n: self.config.n_embd,
            epsilon: self.config.layer_norm_epsilon,
            x: self.slot(Slot::X),
            scale,
            out: self.slot(Slot::Normed),
        };
        layer_norm::record(recorder, self.choices.get(Op::LayerNorm), &op)
    }

    #[allow(clippy::too_many_arguments, reason = "one line a layer's operation reads best")]
    fn linear(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        x: Slot,
        linear: &Linear,
        activation: Activation,
        accumulate: bool,
        out: Slot,
    ) -> Result<()> {
        let op = Matmul {
            step: self.step(0),
            x: self.slot(x),
            weights: &linear.weights,
            bias: Some(&linear.bias),
            activation,
            accumulate,
            out: self.slot(out),
        };
        self.matmul(recorder, phase, &op)
    }

    fn matmul(&self, recorder: &mut Recorder<'_>, phase: Phase, op: &Matmul<'_>) -> Result<()> {
        match phase {
            Phase::Prefill => gemm::record(recorder, self.choices.get(Op::Gemm), op),
            Phase::Decode { batch } => gemv::record(recorder, self.choices.get(Op::Gemv), batch, op),
        }
    }

    fn attention(&self, recorder: &mut Recorder<'_>, phase: Phase, layer: usize) -> Result<()> {
        let kv = PagedKv {
            page_table: self.slot(Slot::PageTable),
            slabs: self.pool.slabs(layer),
            dtype: self.options.kv_dtype,
            n_head: self.config.n_head,
            head_dim: self.config.heads().padded,
        };
        let qkv = self.slot(Slot::Qkv);
        let rows = self.rows(phase);
        let append = kv_append::KvAppend { rows, qkv, kv, spare_slabs: self.pool.spare_slabs() };
        kv_append::record(recorder, &append)?;
        let scale = self.config.attention_scale(layer);
        let scratch = Scratch {
            buffer: self.slot(Slot::AttentionScratch),
            n_ctx: self.dims.n_ctx,
            max_rows: self.dims.chunk,
        };
        let op = Attention { rows, qkv, kv, scale, scratch, out: self.slot(Slot::Attention) };
        match phase {
            Phase::Prefill => {
                attention_prefill::record(recorder, self.choices.get(Op::AttentionPrefill), &op)
            }
            Phase::Decode { .. } => {
                attention_decode::record(recorder, self.choices.get(Op::AttentionDecode), &op)
            }
        }
    }

    pub(super) fn head(&self, recorder: &mut Recorder<'_>, phase: Phase, weights: &Weights) -> Result<()> {
        let step = self.step(HEAD_STEP_OFFSET);
        let norm = layer_norm::LayerNorm {
            step,
            n: self.config.n_embd,
            epsilon: self.config.layer_norm_epsilon,
            x: self.slot(Slot::X),
            scale: &weights.ln_f,
            out: self.slot(Slot::HeadNormed),
        };
        layer_norm::record(recorder, self.choices.get(Op::LayerNorm), &norm)?;
        let logits = Matmul {
            step,
            x: self.slot(Slot::HeadNormed),
            weights: weights.head(),
            bias: None,
            activation: Activation::None,
            accumulate: false,
            out: self.slot(Slot::Logits),
        };
        self.matmul(recorder, phase, &logits)
    }
}
