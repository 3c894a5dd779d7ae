//! The order of a GPT-2 pass: which kernel follows which, on which buffers.

use super::ModelOptions;
use super::dims::{BATCH_OFFSET, Dims, HEAD_STEP_OFFSET, Slot};
use super::gpt2::Gpt2Config;
use super::kv_cache::KvPool;
use super::loader::{LayerWeights, Linear, Weights};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Recorder};
use crate::kernels::kv_append::{self, KvAppend};
use crate::kernels::layer_norm::{self, LayerNorm};
use crate::kernels::norm_gemv::{self, NormGemv};
use crate::kernels::{
    Activation, Attention, Batch, Choices, Matmul, Op, OverflowFlag, PagedKv, Scratch, Step, StepRows,
    attention_decode, attention_prefill, embedding, gemm, gemv, score,
};

/// Which kernels a pass is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Any number of rows, neighbours of one sequence.
    Prefill,
    /// Rows of any sequences, many of them, through the kernels of prefill.
    Packed,
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
    /// Rows of the head's matrix that one dispatch takes; `None` for whole pieces.
    pub(super) head_rows: Option<usize>,
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

    pub(super) fn embed(&self, recorder: &mut Recorder<'_>, phase: Phase, weights: &Weights) -> Result<()> {
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
        weights: &'a LayerWeights,
    ) -> Result<()> {
        use Slot::{Attention as Heads, Inner, Qkv, X};
        let append = Some(self.append(phase, layer));
        self.norm_linear(recorder, phase, &weights.ln_1, &weights.c_attn, Activation::None, append, Qkv)?;
        self.attention(recorder, phase, layer)?;
        self.linear(recorder, phase, Heads, &weights.c_proj, X)?;
        let activation = self.config.activation;
        self.norm_linear(recorder, phase, &weights.ln_2, &weights.c_fc, activation, None, Inner)?;
        self.linear(recorder, phase, Inner, &weights.mlp_proj, X)
    }

    /// A layer norm of the residual stream, the projection behind it, the append of
    /// k and v.
    #[allow(clippy::too_many_arguments, reason = "one line a layer's operation reads best")]
    fn norm_linear(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        scale: &'a GpuBuffer,
        linear: &'a Linear,
        activation: Activation,
        append: Option<KvAppend<'a>>,
        out: Slot,
    ) -> Result<()> {
        let projection = Matmul {
            step: self.step(0),
            x: self.slot(Slot::X),
            weights: &linear.weights,
            bias: Some(&linear.bias),
            activation,
            accumulate: false,
            out: self.slot(out),
            rows_at_once: None,
        };
        self.norm_matmul(recorder, phase, scale, projection, self.slot(Slot::Normed), append)
    }

    fn norm_matmul(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        scale: &'a GpuBuffer,
        projection: Matmul<'a>,
        normed: &'a GpuBuffer,
        append: Option<KvAppend<'a>>,
    ) -> Result<()> {
        let (n, epsilon) = (self.config.n_embd, self.config.layer_norm_epsilon);
        match phase {
            Phase::Decode { batch } => {
                let op = NormGemv { n, epsilon, scale, projection, normed, append };
                norm_gemv::record(recorder, self.choices, batch, &op)
            }
            Phase::Prefill | Phase::Packed => {
                let norm =
                    LayerNorm { step: projection.step, n, epsilon, x: projection.x, scale, out: normed };
                layer_norm::record(recorder, self.choices.get(Op::LayerNorm), &norm)?;
                let matmul = Matmul { x: normed, ..projection };
                self.gemm(recorder, &matmul)?;
                append.map_or(Ok(()), |append| kv_append::record(recorder, &append))
            }
        }
    }

    fn gemm(&self, recorder: &mut Recorder<'_>, op: &Matmul<'_>) -> Result<()> {
        gemm::record(recorder, self.choices.get(Op::Gemm), Some(self.slot(Slot::GemmScratch)), op)
    }

    /// A projection that is added to the residual stream.
    fn linear(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        x: Slot,
        linear: &Linear,
        out: Slot,
    ) -> Result<()> {
        let op = Matmul {
            step: self.step(0),
            x: self.slot(x),
            weights: &linear.weights,
            bias: Some(&linear.bias),
            activation: Activation::None,
            accumulate: true,
            out: self.slot(out),
            rows_at_once: None,
        };
        match phase {
            Phase::Prefill | Phase::Packed => self.gemm(recorder, &op),
            Phase::Decode { batch } => gemv::record(recorder, self.choices.get(Op::Gemv), batch, &op),
        }
    }

    fn kv(&self, layer: usize) -> PagedKv<'a> {
        PagedKv {
            page_table: self.slot(Slot::PageTable),
            slabs: self.pool.slabs(layer),
            dtype: self.options.kv_dtype,
            n_kv_head: self.config.n_head,
            head_dim: self.config.heads().padded,
        }
    }

    fn append(&self, phase: Phase, layer: usize) -> KvAppend<'a> {
        KvAppend {
            rows: self.rows(phase),
            qkv: self.slot(Slot::Qkv),
            kv: self.kv(layer),
            n_head: self.config.n_head,
            spare_slabs: self.pool.spare_slabs(),
            overflow: self
                .options
                .notes_overflow()
                .then(|| OverflowFlag { buffer: self.slot(Slot::Overflow), tag: layer }),
        }
    }

    fn attention(&self, recorder: &mut Recorder<'_>, phase: Phase, layer: usize) -> Result<()> {
        let scale = self.config.attention_scale(layer);
        let scratch = Scratch {
            buffer: self.slot(Slot::AttentionScratch),
            n_ctx: self.dims.n_ctx,
            max_rows: match phase {
                Phase::Prefill | Phase::Packed => self.dims.chunk,
                Phase::Decode { .. } => self.dims.batch,
            },
        };
        let op = Attention {
            rows: self.rows(phase),
            qkv: self.slot(Slot::Qkv),
            kv: self.kv(layer),
            n_head: self.config.n_head,
            scale,
            soft_cap: None,
            window: None,
            scratch,
            out: self.slot(Slot::Attention),
        };
        match phase {
            Phase::Prefill | Phase::Packed => {
                attention_prefill::record(recorder, self.choices.get(Op::AttentionPrefill), &op)
            }
            Phase::Decode { .. } => {
                attention_decode::record(recorder, self.choices.get(Op::AttentionDecode), &op)
            }
        }
    }

    /// Scores of the head's rows.
    pub(super) fn score(&self, recorder: &mut Recorder<'_>) -> Result<()> {
        let op = score::Score {
            step: self.step(HEAD_STEP_OFFSET),
            n: self.config.vocab_size,
            logits: self.slot(Slot::Logits),
            targets: self.slot(Slot::Targets),
            partial: self.slot(Slot::ScorePartial),
            logprobs: self.slot(Slot::Logprobs),
            details: self.slot(Slot::ScoreDetails),
        };
        score::record(recorder, self.choices.get(Op::Score), &op)
    }

    pub(super) fn head(&self, recorder: &mut Recorder<'_>, phase: Phase, weights: &'a Weights) -> Result<()> {
        let normed = self.slot(Slot::HeadNormed);
        let projection = Matmul {
            step: self.step(HEAD_STEP_OFFSET),
            x: self.slot(Slot::X),
            weights: weights.head(),
            bias: None,
            activation: Activation::None,
            accumulate: false,
            out: self.slot(Slot::Logits),
            rows_at_once: self.head_rows,
        };
        self.norm_matmul(recorder, phase, &weights.ln_f, projection, normed, None)
    }
}
