//! Test bed for timing candidates: the buffers of a model's step, and the part of a step
//! that a candidate computes.

mod buffers;

use buffers::{Rows, matrix, numbers};

use crate::conformance::Shapes;
use crate::error::Result;
use crate::gpu::{BufferUse, Dispatch, Gpu, GpuBuffer, MemoryGroup, Params, Recorder, Work};
use crate::kernels::kv_append::KvAppend;
use crate::kernels::norm_gemv::{self, NormGemv};
use crate::kernels::{
    Activation, Attention, AttentionShape, Choices, Matmul, MatmulForm, Matrix, Norm, NormForm, Op,
    PAGE_SIZE, PagedKv, Rotary, Scratch, StepRows, attention_decode, attention_prefill, gemm, gemv, norm,
    page_entry, page_pack_bytes,
};
use crate::kernels::{contract, score};
use crate::tensor::{Axis, DType};

/// Minimum total bytes of the layers' weights, unless all layers of the model have fewer.
/// They exceed the last-level cache of most devices, so that weights are read from memory
/// as in a model.
const LAYERS_BYTES: usize = 64 << 20;

/// The part of a step that one candidate computes.
pub(super) struct Share {
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) work: Work,
    /// Number of times that a step of the model contains it.
    pub(super) times: f64,
}

/// Weights and cache of one layer.
struct Layer {
    /// `[(n_head + 2 n_kv_head) head_dim, n_embd]`
    qkv: Matrix,
    /// `[n_embd, n_head head_dim]`
    projection: Matrix,
    /// `[n_inner, n_embd]`, with twice as many rows for a gated MLP
    fc: Matrix,
    /// `[n_embd, n_inner]`
    mlp: Matrix,
    slab: GpuBuffer,
}

/// Buffers of a step. Their contents have no meaning; all values are small numbers.
pub(super) struct Bed<'a> {
    gpu: &'a Gpu,
    shapes: &'a Shapes,
    layers: Vec<Layer>,
    head: Matrix,
    decode: Rows,
    prefill: Rows,
    /// `[chunk, n_embd]`
    x: GpuBuffer,
    /// `[chunk, n_embd]`
    normed: GpuBuffer,
    /// `[chunk, n_head + 2 n_kv_head, head_dim]`
    qkv: GpuBuffer,
    /// `[chunk, n_head, head_dim]`
    heads: GpuBuffer,
    /// `[chunk, n_inner]`
    inner: GpuBuffer,
    /// `[chunk, 2 n_inner]`, only for a gated MLP
    gate_and_up: Option<GpuBuffer>,
    /// `[n_ctx, head_dim]`, only if q and k are rotated
    rope: Option<GpuBuffer>,
    /// `[1, vocab_size]`
    logits: GpuBuffer,
    /// `[2, n_embd]`
    scale: GpuBuffer,
    /// As many elements as the widest output.
    bias: GpuBuffer,
    page_table: GpuBuffer,
}

const EPSILON: f32 = 1e-5;

impl<'a> Bed<'a> {
    /// Allocates the buffers.
    ///
    /// # Errors
    /// The errors of [`Gpu::allocate`].
    pub(super) fn new(gpu: &'a Gpu, shapes: &'a Shapes) -> Result<Self> {
        let Shapes { n_embd, n_head, n_kv_head, head_dim, n_inner, vocab_size, dtype, .. } = *shapes;
        let (embd, heads) = (Axis::plain(n_embd), Axis::grouped(n_head, head_dim));
        let (qkv, inner) = (Axis::grouped(n_head + 2 * n_kv_head, head_dim), Axis::plain(n_inner));
        let vocab = Axis::plain(vocab_size).padded_len();
        let (embd, heads, qkv, inner) =
            (embd.padded_len(), heads.padded_len(), qkv.padded_len(), inner.padded_len());
        let fc = if shapes.gated { 2 * inner } else { inner };
        let layer_bytes = embd * (qkv + heads + fc + inner) * dtype.size_bytes();
        let n_layers = LAYERS_BYTES.div_ceil(layer_bytes.max(1)).clamp(1, shapes.n_layer.max(1));
        let pages = shapes.depth().max(shapes.rows()).div_ceil(PAGE_SIZE);
        let head = Axis::plain(head_dim).padded_len();
        let page_bytes = page_pack_bytes(n_kv_head, head, shapes.kv_dtype);
        let layers = (0..n_layers).map(|_| {
            Ok(Layer {
                qkv: matrix(gpu, qkv, embd, dtype)?,
                projection: matrix(gpu, embd, heads, dtype)?,
                fc: matrix(gpu, fc, embd, dtype)?,
                mlp: matrix(gpu, embd, inner, dtype)?,
                slab: numbers(gpu, "slab", pages as u64 * page_bytes, shapes.kv_dtype)?,
            })
        });
        let rows = shapes.rows();
        let floats = |name, elems: usize| numbers(gpu, name, elems as u64 * 4, DType::F32);
        let entries: Vec<u32> = (0..pages).map(|page| page_entry(0, page)).collect();
        let table = bytemuck::cast_slice(&entries);
        Ok(Bed {
            gpu,
            shapes,
            layers: layers.collect::<Result<_>>()?,
            head: matrix(gpu, vocab, embd, dtype)?,
            decode: Rows::new(gpu, 1, shapes.depth())?,
            prefill: Rows::new(gpu, rows, rows)?,
            x: floats("x", rows * embd)?,
            normed: floats("normed", rows * embd)?,
            qkv: floats("qkv", rows * qkv)?,
            heads: floats("attention", rows * heads)?,
            inner: floats("inner", rows * inner)?,
            gate_and_up: shapes.gated.then(|| floats("gate and up", rows * fc)).transpose()?,
            rope: shapes.rotary.then(|| floats("rope", pages * PAGE_SIZE * head)).transpose()?,
            logits: floats("logits", vocab)?,
            scale: floats("scale", 2 * embd)?,
            bias: floats("bias", qkv.max(fc).max(embd))?,
            page_table: gpu.allocate_with("page_table", table, MemoryGroup::Activations)?,
        })
    }

    /// Records the dispatches of `op` in one step with the implementation that `choices`
    /// names. The step is a prefill chunk for operations of prefill and a decode step for
    /// the others.
    ///
    /// # Errors
    /// The errors of [`Recorder::dispatch`] and [`Gpu::allocate`].
    pub(super) fn shares(&self, op: Op, choices: &Choices) -> Result<Vec<Share>> {
        let rows = match op {
            Op::Gemv | Op::NormGemv | Op::RmsGemv | Op::AttentionDecode => &self.decode,
            Op::LayerNorm | Op::RmsNorm | Op::Gemm | Op::AttentionPrefill => &self.prefill,
            Op::Score => return self.score_share(choices),
        };
        // Attention and a split gemm pass intermediate results through a scratch buffer.
        let scratch = self.scratch(op, choices)?;
        let layers = self.record(|recorder| {
            self.layers.iter().try_for_each(|layer| self.layer(recorder, op, choices, rows, layer, &scratch))
        })?;
        let times = self.shapes.n_layer as f64 / self.layers.len() as f64;
        let mut shares = vec![Share { dispatches: layers, work: rows.work, times }];
        if matches!(op, Op::NormGemv | Op::RmsGemv) {
            let head = self.record(|recorder| {
                let projection =
                    Matmul { bias: None, ..self.matmul(rows, &self.normed, &self.head, &self.logits) };
                norm_gemv::record(recorder, choices, 1, &self.norm_gemv(op, rows, projection, None))
            })?;
            shares.push(Share { dispatches: head, work: rows.work, times: 1.0 });
        }
        Ok(shares)
    }

    /// Records the score of one row, which does not belong to a layer.
    fn score_share(&self, choices: &Choices) -> Result<Vec<Share>> {
        let candidate = choices.get(Op::Score);
        let n = self.shapes.vocab_size;
        let floats = |name, bytes| numbers(self.gpu, name, bytes, DType::F32);
        let (partial, details) =
            (floats("partial", score::partial_bytes(candidate, n))?, floats("details", 16)?);
        let (logprobs, target) = (floats("logprobs", 4)?, 0u32.to_le_bytes());
        let targets = self.gpu.allocate_with("targets", &target, MemoryGroup::Activations)?;
        let dispatches = self.record(|recorder| {
            let op = score::Score {
                step: (&self.decode.step).into(),
                n,
                logits: &self.logits,
                targets: &targets,
                partial: &partial,
                logprobs: &logprobs,
                details: &details,
            };
            score::record(recorder, candidate, &op)
        })?;
        Ok(vec![Share { dispatches, work: self.decode.work, times: 1.0 }])
    }

    /// Records the dispatches of an operation in one layer.
    fn layer(
        &self,
        recorder: &mut Recorder<'_>,
        op: Op,
        choices: &Choices,
        rows: &Rows,
        layer: &Layer,
        scratch: &GpuBuffer,
    ) -> Result<()> {
        let qkv = self.matmul(rows, &self.normed, &layer.qkv, &self.qkv);
        let qkv = Matmul { form: self.rotation(rows.bound(op)), ..qkv };
        let (activation, form) = if self.shapes.gated {
            (Activation::Silu, MatmulForm::Gated)
        } else {
            (Activation::GeluTanh, MatmulForm::Plain)
        };
        let fc = Matmul { activation, form, ..self.matmul(rows, &self.normed, &layer.fc, &self.inner) };
        let residual = |x, weights| Matmul { accumulate: true, ..self.matmul(rows, x, weights, &self.x) };
        let projection = residual(&self.heads, &layer.projection);
        let mlp = residual(&self.inner, &layer.mlp);
        let candidate = choices.get(op);
        match op {
            Op::LayerNorm | Op::RmsNorm => {
                let norm = self.norm(op, rows);
                (0..2).try_for_each(|_| norm::record(recorder, choices, &norm))
            }
            Op::Gemv => {
                gemv::record(recorder, candidate, 1, &projection)?;
                gemv::record(recorder, candidate, 1, &mlp)
            }
            Op::NormGemv | Op::RmsGemv => {
                let kv = self.kv(layer);
                let append = KvAppend {
                    rows: rows.bound(op),
                    qkv: &self.qkv,
                    kv,
                    n_head: self.shapes.n_head,
                    spare_slabs: &[],
                    overflow: None,
                };
                let qkv = self.norm_gemv(op, rows, qkv, Some(append));
                norm_gemv::record(recorder, choices, 1, &qkv)?;
                let fc = self.norm_gemv(op, rows, fc, None);
                norm_gemv::record(recorder, choices, 1, &fc)
            }
            Op::Gemm => {
                let scratch = gemm::Scratch { splits: Some(scratch), gated: self.gate_and_up.as_ref() };
                let all = [qkv, projection, fc, mlp];
                all.iter().try_for_each(|matmul| gemm::record(recorder, candidate, scratch, matmul))
            }
            Op::AttentionPrefill | Op::AttentionDecode => {
                let attention = Attention {
                    rows: rows.bound(op),
                    qkv: &self.qkv,
                    kv: self.kv(layer),
                    n_head: self.shapes.n_head,
                    soft_cap: None,
                    window: None,
                    scale: 1.0 / (self.shapes.head_dim as f32).sqrt(),
                    scratch: self.bound_scratch(op, scratch),
                    out: &self.heads,
                };
                match op {
                    Op::AttentionPrefill => attention_prefill::record(recorder, candidate, &attention),
                    _ => attention_decode::record(recorder, candidate, &attention),
                }
            }
            Op::Score => unreachable!("no layer has a score"),
        }
    }

    fn matmul<'b>(
        &'b self,
        rows: &'b Rows,
        x: &'b GpuBuffer,
        weights: &'b Matrix,
        out: &'b GpuBuffer,
    ) -> Matmul<'b> {
        Matmul {
            step: (&rows.step).into(),
            x,
            weights,
            bias: Some(&self.bias),
            activation: Activation::None,
            soft_cap: None,
            form: MatmulForm::Plain,
            accumulate: false,
            out,
            rows_at_once: None,
        }
    }

    /// Returns the form of the q, k and v projection: rotated if the model has a rotary
    /// table.
    fn rotation<'b>(&'b self, rows: StepRows<'b>) -> MatmulForm<'b> {
        let head_dim = Axis::plain(self.shapes.head_dim).padded_len();
        let n_heads = self.shapes.n_head + self.shapes.n_kv_head;
        self.rope
            .as_ref()
            .map_or(MatmulForm::Plain, |table| MatmulForm::Rotated(Rotary { rows, table, n_heads, head_dim }))
    }

    /// Returns the norm that `op` computes, with or without a projection.
    fn norm<'b>(&'b self, op: Op, rows: &'b Rows) -> Norm<'b> {
        Norm {
            form: op.norm_form().unwrap_or(NormForm::Layer),
            step: (&rows.step).into(),
            n: self.shapes.n_embd,
            epsilon: EPSILON,
            x: &self.x,
            scale: &self.scale,
            accumulate: false,
            out: &self.normed,
        }
    }

    fn norm_gemv<'b>(
        &'b self,
        op: Op,
        rows: &'b Rows,
        projection: Matmul<'b>,
        append: Option<KvAppend<'b>>,
    ) -> NormGemv<'b> {
        NormGemv { norm: self.norm(op, rows), projection, append }
    }

    fn kv<'b>(&'b self, layer: &'b Layer) -> PagedKv<'b> {
        PagedKv {
            page_table: &self.page_table,
            slabs: std::slice::from_ref(&layer.slab),
            dtype: self.shapes.kv_dtype,
            n_kv_head: self.shapes.n_kv_head,
            head_dim: Axis::plain(self.shapes.head_dim).padded_len(),
        }
    }

    /// Returns the positions and rows for which attention's scratch has space.
    fn scratch_size(&self, op: Op) -> (usize, usize) {
        if op == Op::AttentionPrefill {
            (self.shapes.rows(), self.shapes.rows())
        } else {
            (self.shapes.depth(), 1)
        }
    }

    fn scratch(&self, op: Op, choices: &Choices) -> Result<GpuBuffer> {
        let elems = match op {
            Op::AttentionPrefill | Op::AttentionDecode => {
                let (n_ctx, max_rows) = self.scratch_size(op);
                let Shapes { n_head, n_kv_head, .. } = *self.shapes;
                let head_dim = Axis::plain(self.shapes.head_dim).padded_len();
                let shape = AttentionShape { n_head, n_kv_head, head_dim, window: None };
                Scratch::elems(choices.get(op), n_ctx, max_rows, shape)
            }
            Op::Gemm => {
                let fc = self.gate_and_up.as_ref().unwrap_or(&self.inner);
                let widths = [&self.qkv, fc, &self.x].map(|row| self.row_elems(row));
                let bytes = |n| gemm::scratch_bytes(choices.get(op), n);
                widths.into_iter().map(bytes).max().unwrap_or(0) as usize / 4
            }
            _ => 0,
        };
        let bytes = elems.max(4) as u64 * 4;
        self.gpu.allocate("scratch", bytes, BufferUse::Storage, MemoryGroup::Activations)
    }

    /// Returns the elements per row of one of the activations.
    fn row_elems(&self, activations: &GpuBuffer) -> usize {
        activations.bytes() as usize / 4 / self.shapes.rows()
    }

    fn bound_scratch<'b>(&self, op: Op, buffer: &'b GpuBuffer) -> Scratch<'b> {
        let (n_ctx, max_rows) = self.scratch_size(op);
        Scratch { buffer, n_ctx, max_rows }
    }

    fn record(&self, with: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<Vec<Dispatch>> {
        // Number of distinct parameter structs: one per matrix and one per piece of it.
        let mut params = Params::new(self.gpu, 16 + 4 * self.head.pieces.len())?;
        let mut recorder = contract::recorder(self.gpu, &mut params);
        with(&mut recorder)?;
        Ok(recorder.finish())
    }
}
