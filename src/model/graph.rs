//! The order of a pass: its sequence of kernels, and the buffers they use.

use super::ModelOptions;
use super::decoder::{Decoder, Residual};
use super::dims::{BATCH_OFFSET, Dims, HEAD_STEP_OFFSET, PAGE_TABLES, Slot};
use super::kv_cache::KvCache;
use super::loader::{LayerWeights, Linear, Weights};
use crate::error::Result;
use crate::gpu::{BoundBuffer, GpuBuffer, Recorder};
use crate::kernels::kv_append::{self, KvAppend};
use crate::kernels::norm_gemv::{self, NormGemv};
use crate::kernels::qk_norm::{self, QkNorm};
use crate::kernels::{
    Activation, Attention, Batch, Choices, Matmul, MatmulForm, Norm, Op, OverflowFlag, PagedKv, Rotary,
    Scratch, Step, StepRows, attention_decode, attention_prefill, embedding, gemm, gemv, norm, score,
};

/// The set of kernels that a pass uses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Any number of consecutive rows of one sequence.
    Prefill,
    /// Many rows of any sequences, through the prefill kernels.
    Packed,
    /// Rows of any sequences. The weights are read once per `batch` rows.
    Decode {
        /// One of [`gemv::BATCHES`].
        batch: usize,
    },
}

/// The inputs of recording.
pub(super) struct Graph<'a> {
    pub(super) config: &'a Decoder,
    pub(super) options: &'a ModelOptions,
    pub(super) choices: &'a Choices,
    pub(super) buffers: &'a [GpuBuffer],
    pub(super) cache: &'a KvCache,
    pub(super) dims: &'a Dims,
    /// Rows of the head's matrix per dispatch; `None` for whole pieces.
    pub(super) head_rows: Option<usize>,
}

/// Records dispatches as the section of an operation. Tuning finds them by the section.
fn section(
    recorder: &mut Recorder<'_>,
    op: Op,
    record: impl FnOnce(&mut Recorder<'_>) -> Result<()>,
) -> Result<()> {
    recorder.set_section(Some(op as usize));
    let result = record(recorder);
    recorder.set_section(None);
    result
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
            wte: &weights.tokens,
            wpe: weights.positions.as_ref(),
            scale: self.config.embedding.scale,
            out: self.slot(Slot::X),
        };
        embedding::record(recorder, &op)
    }

    /// Records a block, with its norms and residual sums in the model's order.
    pub(super) fn layer(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        layer: usize,
        weights: &'a LayerWeights,
    ) -> Result<()> {
        let mlp_norm = weights.mlp_norm.as_ref().unwrap_or(&weights.attention_norm);
        self.attention_in(recorder, phase, layer, weights)?;
        if matches!(self.config.residual, Residual::Parallel { .. }) {
            // Attention and MLP both read the stream before either adds to it.
            self.mlp_in(recorder, phase, mlp_norm, &weights.up)?;
            self.attention(recorder, phase, layer)?;
            self.out(recorder, phase, Slot::Attention, &weights.out, None)?;
        } else {
            self.attention(recorder, phase, layer)?;
            self.out(recorder, phase, Slot::Attention, &weights.out, weights.after_attention.as_ref())?;
            self.mlp_in(recorder, phase, mlp_norm, &weights.up)?;
        }
        self.out(recorder, phase, Slot::Inner, &weights.down, weights.after_mlp.as_ref())
    }

    /// Records the norm, the projection to q, k and v, the rotation, and the append of k
    /// and v.
    fn attention_in(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        layer: usize,
        weights: &'a LayerWeights,
    ) -> Result<()> {
        let append = self.append(phase, layer);
        let (attention, rotary) = (&self.config.attention, self.rotary(phase, layer));
        let projection = self.projection(Slot::X, &weights.qkv, Slot::Qkv);
        let Some(scale) = &weights.qk_norm else {
            let form = rotary.map_or(MatmulForm::Plain, MatmulForm::Rotated);
            let projection = Matmul { form, ..projection };
            return self.norm_matmul(
                recorder,
                phase,
                &weights.attention_norm,
                projection,
                Slot::Normed,
                Some(append),
            );
        };
        // A norm of heads needs whole heads, which exist only after the projection.
        self.norm_matmul(recorder, phase, &weights.attention_norm, projection, Slot::Normed, None)?;
        let norm = QkNorm {
            rows: self.rows(phase),
            qkv: self.slot(Slot::Qkv),
            n_head: attention.n_head,
            n_kv_head: attention.n_kv_head,
            head_dim: attention.head_dim,
            epsilon: self.config.norms.epsilon,
            scale,
            rope: rotary.map(|rotary| rotary.table),
        };
        qk_norm::record(recorder, &norm)?;
        kv_append::record(recorder, &append)
    }

    /// Records the norm, the projection to the MLP's width, the activation, and the
    /// product with the gate.
    fn mlp_in(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        norm: &'a GpuBuffer,
        up: &'a Linear,
    ) -> Result<()> {
        let form = if self.config.is_gated() { MatmulForm::Gated } else { MatmulForm::Plain };
        let activation = self.config.mlp.activation;
        let projection = Matmul { form, activation, ..self.projection(Slot::X, up, Slot::Inner) };
        self.norm_matmul(recorder, phase, norm, projection, Slot::Normed, None)
    }

    /// Records a projection whose output is added to the residual stream, after `norm` if
    /// there is one.
    fn out(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        x: Slot,
        linear: &'a Linear,
        norm: Option<&'a GpuBuffer>,
    ) -> Result<()> {
        let op = match norm {
            None => Matmul { accumulate: true, ..self.projection(x, linear, Slot::X) },
            Some(_) => self.projection(x, linear, Slot::Branch),
        };
        match phase {
            Phase::Prefill | Phase::Packed => self.gemm(recorder, &op)?,
            Phase::Decode { batch } => section(recorder, Op::Gemv, |recorder| {
                gemv::record(recorder, self.choices.get(Op::Gemv), batch, &op)
            })?,
        }
        match norm {
            None => Ok(()),
            Some(scale) => {
                let norm = self.norm(op.step, Slot::Branch, scale, true, Slot::X);
                self.separate_norm(recorder, &norm)
            }
        }
    }

    /// Describes the product of the rows of `x` with `linear`, plus its bias, without
    /// activation.
    fn projection(&self, x: Slot, linear: &'a Linear, out: Slot) -> Matmul<'a> {
        Matmul {
            step: self.step(0),
            x: self.slot(x),
            weights: &linear.weights,
            bias: linear.bias.as_ref(),
            activation: Activation::None,
            accumulate: false,
            form: MatmulForm::Plain,
            soft_cap: None,
            out: self.slot(out),
            rows_at_once: None,
        }
    }

    /// Describes the model's norm of the rows of `x`.
    fn norm(
        &self,
        step: BoundBuffer<'a>,
        x: Slot,
        scale: &'a GpuBuffer,
        accumulate: bool,
        out: Slot,
    ) -> Norm<'a> {
        let (form, epsilon) = (self.config.norms.kind, self.config.norms.epsilon);
        let (x, out) = (self.slot(x), self.slot(out));
        Norm { form, step, n: self.config.n_embd, epsilon, x, scale, accumulate, out }
    }

    /// Records a norm as a separate kernel.
    fn separate_norm(&self, recorder: &mut Recorder<'_>, norm: &Norm<'_>) -> Result<()> {
        section(recorder, norm.form.op(), |recorder| norm::record(recorder, self.choices, norm))
    }

    /// Records a norm of the residual stream, the projection after it, and the append of
    /// k and v. If the norm is a separate kernel, `normed` receives its output.
    fn norm_matmul(
        &self,
        recorder: &mut Recorder<'_>,
        phase: Phase,
        scale: &'a GpuBuffer,
        projection: Matmul<'a>,
        normed: Slot,
        append: Option<KvAppend<'a>>,
    ) -> Result<()> {
        let norm = self.norm(projection.step, Slot::X, scale, false, normed);
        let projection = Matmul { x: norm.out, ..projection };
        match phase {
            Phase::Decode { batch } => {
                let op = NormGemv { norm, projection, append };
                section(recorder, norm.form.gemv_op(), |recorder| {
                    norm_gemv::record(recorder, self.choices, batch, &op)
                })
            }
            Phase::Prefill | Phase::Packed => {
                self.separate_norm(recorder, &norm)?;
                self.gemm(recorder, &projection)?;
                append.map_or(Ok(()), |append| kv_append::record(recorder, &append))
            }
        }
    }

    fn gemm(&self, recorder: &mut Recorder<'_>, op: &Matmul<'_>) -> Result<()> {
        let scratch =
            gemm::Scratch { splits: Some(self.slot(Slot::GemmScratch)), gated: Some(self.slot(Slot::Gate)) };
        section(recorder, Op::Gemm, |recorder| {
            gemm::record(recorder, self.choices.get(Op::Gemm), scratch, op)
        })
    }

    /// Returns how a layer rotates q and k; `None` if the model has no rotary embedding.
    fn rotary(&self, phase: Phase, layer: usize) -> Option<Rotary<'a>> {
        let attention = &self.config.attention;
        if attention.ropes.is_empty() {
            return None;
        }
        let table = [Slot::Rope, Slot::RopeLocal][attention.layers[layer].rope];
        Some(Rotary {
            rows: self.rows(phase),
            table: self.slot(table),
            n_heads: attention.n_head + attention.n_kv_head,
            head_dim: self.config.heads().padded,
        })
    }

    fn kv(&self, layer: usize) -> PagedKv<'a> {
        PagedKv {
            page_table: self.slot(PAGE_TABLES[self.cache.group(layer)]),
            slabs: self.cache.slabs(layer),
            dtype: self.options.kv_dtype,
            n_kv_head: self.config.attention.n_kv_head,
            head_dim: self.config.heads().padded,
        }
    }

    fn append(&self, phase: Phase, layer: usize) -> KvAppend<'a> {
        KvAppend {
            rows: self.rows(phase),
            qkv: self.slot(Slot::Qkv),
            n_head: self.config.attention.n_head,
            kv: self.kv(layer),
            spare_slabs: self.cache.pool(layer).spare_slabs(),
            overflow: self
                .options
                .detects_f16_overflow()
                .then(|| OverflowFlag { buffer: self.slot(Slot::F16Overflow), tag: layer }),
        }
    }

    fn attention(&self, recorder: &mut Recorder<'_>, phase: Phase, layer: usize) -> Result<()> {
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
            n_head: self.config.attention.n_head,
            scale: self.config.attention_scale(layer),
            soft_cap: self.config.attention.soft_cap,
            window: self.config.window(layer),
            scratch,
            out: self.slot(Slot::Attention),
        };
        match phase {
            Phase::Prefill | Phase::Packed => section(recorder, Op::AttentionPrefill, |recorder| {
                attention_prefill::record(recorder, self.choices.get(Op::AttentionPrefill), &op)
            }),
            Phase::Decode { .. } => section(recorder, Op::AttentionDecode, |recorder| {
                attention_decode::record(recorder, self.choices.get(Op::AttentionDecode), &op)
            }),
        }
    }

    /// Records the scores of the head's rows.
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
        section(recorder, Op::Score, |recorder| score::record(recorder, self.choices.get(Op::Score), &op))
    }

    pub(super) fn head(&self, recorder: &mut Recorder<'_>, phase: Phase, weights: &'a Weights) -> Result<()> {
        let projection = Matmul {
            step: self.step(HEAD_STEP_OFFSET),
            x: self.slot(Slot::X),
            weights: weights.head(),
            bias: weights.lm_head_bias.as_ref(),
            activation: Activation::None,
            accumulate: false,
            form: MatmulForm::Plain,
            soft_cap: self.config.head.soft_cap,
            out: self.slot(Slot::Logits),
            rows_at_once: self.head_rows,
        };
        self.norm_matmul(recorder, phase, &weights.final_norm, projection, Slot::HeadNormed, None)
    }
}
