//! Where candidates are timed: the buffers of a model's step, and what a candidate
//! does in it.

use super::Shapes;
use crate::error::Result;
use crate::gpu::{BoundBuffer, BufferUse, Dispatch, Gpu, GpuBuffer, MemoryGroup, Params, Recorder, Work};
use crate::kernels::kv_append::KvAppend;
use crate::kernels::layer_norm::{self, LayerNorm};
use crate::kernels::norm_gemv::{self, NormGemv};
use crate::kernels::score;
use crate::kernels::{
    Activation, Attention, AttentionShape, Batch, Choices, Matmul, Matrix, MatrixLayout, Op, PAGE_SIZE,
    PagedKv, Piece, Row, Scratch, Step, StepRows, attention_decode, attention_prefill, gemm, gemv,
    page_entry, page_pack_bytes,
};
use crate::tensor::{Axis, DType};

/// Layers of their own weights have at least this many bytes, or are all that the
/// model has: more than the last cache of most devices, so that weights come from
/// memory as they do in a model.
const LAYERS_BYTES: usize = 64 << 20;

/// Part of a step as one candidate computes it.
pub(super) struct Share {
    pub(super) dispatches: Vec<Dispatch>,
    pub(super) work: Work,
    /// How often the step has it.
    pub(super) times: f64,
}

/// Weights and cache of a layer.
struct Layer {
    /// `[3 n_head head_dim, n_embd]`
    qkv: Matrix,
    /// `[n_embd, n_head head_dim]`
    projection: Matrix,
    /// `[n_inner, n_embd]`
    fc: Matrix,
    /// `[n_embd, n_inner]`
    mlp: Matrix,
    slab: GpuBuffer,
}

/// Steps of one kind: a chunk of prefill or a row of decode.
struct Rows {
    step: GpuBuffer,
    batch: GpuBuffer,
    work: Work,
}

/// The buffers. What they hold has no meaning; all values are small numbers.
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
    /// `[chunk, 3, n_head, head_dim]`
    qkv: GpuBuffer,
    /// `[chunk, n_head, head_dim]`
    heads: GpuBuffer,
    /// `[chunk, n_inner]`
    inner: GpuBuffer,
    /// `[1, vocab_size]`
    logits: GpuBuffer,
    /// `[2, n_embd]`
    scale: GpuBuffer,
    /// As long as the widest output.
    bias: GpuBuffer,
    page_table: GpuBuffer,
}

const EPSILON: f32 = 1e-5;

impl<'a> Bed<'a> {
    /// Allocates the buffers.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub(super) fn new(gpu: &'a Gpu, shapes: &'a Shapes) -> Result<Self> {
        let Shapes { n_embd, n_head, head_dim, n_inner, vocab_size, dtype, .. } = *shapes;
        let (embd, heads) = (Axis::plain(n_embd), Axis::grouped(n_head, head_dim));
        let (qkv, inner) = (Axis::grouped(3 * n_head, head_dim), Axis::plain(n_inner));
        let vocab = Axis::plain(vocab_size).padded_len();
        let (embd, heads, qkv, inner) =
            (embd.padded_len(), heads.padded_len(), qkv.padded_len(), inner.padded_len());
        let layer_bytes = embd * (qkv + heads + 2 * inner) * dtype.size_bytes();
        let n_layers = LAYERS_BYTES.div_ceil(layer_bytes.max(1)).clamp(1, shapes.n_layer.max(1));
        let pages = shapes.depth().max(shapes.rows()).div_ceil(PAGE_SIZE);
        let page_bytes = page_pack_bytes(n_head, Axis::plain(head_dim).padded_len(), shapes.kv_dtype);
        let layers = (0..n_layers).map(|_| {
            Ok(Layer {
                qkv: matrix(gpu, qkv, embd, dtype)?,
                projection: matrix(gpu, embd, heads, dtype)?,
                fc: matrix(gpu, inner, embd, dtype)?,
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
            logits: floats("logits", vocab)?,
            scale: floats("scale", 2 * embd)?,
            bias: floats("bias", qkv.max(inner).max(embd))?,
            page_table: gpu.allocate_with("page_table", table, MemoryGroup::Activations)?,
        })
    }

    /// What the implementation of `op` among `choices` does in a step: of decode
    /// for the operations of decode, of a prefill chunk for those of prefill.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`] and [`Gpu::allocate`].
    pub(super) fn shares(&self, op: Op, choices: &Choices) -> Result<Vec<Share>> {
        let rows = match op {
            Op::Gemv | Op::NormGemv | Op::AttentionDecode => &self.decode,
            Op::LayerNorm | Op::Gemm | Op::AttentionPrefill => &self.prefill,
            Op::Score => return self.score_share(choices),
        };
        // Attention and a split gemm pass intermediate results through a buffer.
        let scratch = self.scratch(op, choices)?;
        let layers = self.record(|recorder| {
            self.layers.iter().try_for_each(|layer| self.layer(recorder, op, choices, rows, layer, &scratch))
        })?;
        let times = self.shapes.n_layer as f64 / self.layers.len() as f64;
        let mut shares = vec![Share { dispatches: layers, work: rows.work, times }];
        if op == Op::NormGemv {
            let head = self.record(|recorder| {
                let projection =
                    Matmul { bias: None, ..self.matmul(rows, &self.x, &self.head, &self.logits) };
                norm_gemv::record(recorder, choices, 1, &self.norm_gemv(projection, None))
            })?;
            shares.push(Share { dispatches: head, work: rows.work, times: 1.0 });
        }
        Ok(shares)
    }

    /// The score of a row: no layer has one.
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

    /// An operation's dispatches in a layer.
    fn layer(
        &self,
        recorder: &mut Recorder<'_>,
        op: Op,
        choices: &Choices,
        rows: &Rows,
        layer: &Layer,
        scratch: &GpuBuffer,
    ) -> Result<()> {
        let gelu = Activation::GeluTanh;
        let qkv = self.matmul(rows, &self.normed, &layer.qkv, &self.qkv);
        let fc = Matmul { activation: gelu, ..self.matmul(rows, &self.normed, &layer.fc, &self.inner) };
        let residual = |x, weights| Matmul { accumulate: true, ..self.matmul(rows, x, weights, &self.x) };
        let projection = residual(&self.heads, &layer.projection);
        let mlp = residual(&self.inner, &layer.mlp);
        let candidate = choices.get(op);
        match op {
            Op::LayerNorm => {
                let (n, step) = (self.shapes.n_embd, (&rows.step).into());
                let (x, scale, out) = (&self.x, &self.scale, &self.normed);
                let norm = LayerNorm { step, n, epsilon: EPSILON, x, scale, out };
                (0..2).try_for_each(|_| layer_norm::record(recorder, candidate, &norm))
            }
            Op::Gemv => {
                gemv::record(recorder, candidate, 1, &projection)?;
                gemv::record(recorder, candidate, 1, &mlp)
            }
            Op::NormGemv => {
                let kv = self.kv(layer);
                let append = KvAppend {
                    rows: rows.bound(op),
                    qkv: &self.qkv,
                    kv,
                    n_head: self.shapes.n_head,
                    spare_slabs: &[],
                    overflow: None,
                };
                let qkv = self.norm_gemv(Matmul { x: &self.x, ..qkv }, Some(append));
                norm_gemv::record(recorder, choices, 1, &qkv)?;
                norm_gemv::record(recorder, choices, 1, &self.norm_gemv(Matmul { x: &self.x, ..fc }, None))
            }
            Op::Gemm => [qkv, projection, fc, mlp]
                .iter()
                .try_for_each(|matmul| gemm::record(recorder, candidate, Some(scratch), matmul)),
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
            accumulate: false,
            out,
            rows_at_once: None,
        }
    }

    fn norm_gemv<'b>(&'b self, projection: Matmul<'b>, append: Option<KvAppend<'b>>) -> NormGemv<'b> {
        let (n, scale, normed) = (self.shapes.n_embd, &self.scale, &self.normed);
        NormGemv { n, epsilon: EPSILON, scale, projection, normed, append }
    }

    fn kv<'b>(&'b self, layer: &'b Layer) -> PagedKv<'b> {
        PagedKv {
            page_table: &self.page_table,
            slabs: std::slice::from_ref(&layer.slab),
            dtype: self.shapes.kv_dtype,
            n_kv_head: self.shapes.n_head,
            head_dim: Axis::plain(self.shapes.head_dim).padded_len(),
        }
    }

    /// Positions and rows that attention's scratch has room for.
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
                let (n_head, head_dim) = (self.shapes.n_head, Axis::plain(self.shapes.head_dim).padded_len());
                let shape = AttentionShape { n_head, n_kv_head: n_head, head_dim, window: None };
                Scratch::elems(choices.get(op), n_ctx, max_rows, shape)
            }
            Op::Gemm => {
                let widths = [&self.qkv, &self.inner, &self.x].map(|row| self.row_elems(row));
                let bytes = |n| gemm::scratch_bytes(choices.get(op), n);
                widths.into_iter().map(bytes).max().unwrap_or(0) as usize / 4
            }
            _ => 0,
        };
        let bytes = elems.max(4) as u64 * 4;
        self.gpu.allocate("scratch", bytes, BufferUse::Storage, MemoryGroup::Activations)
    }

    /// Elements of a row of one of the activations.
    fn row_elems(&self, activations: &GpuBuffer) -> usize {
        activations.bytes() as usize / 4 / self.shapes.rows()
    }

    fn bound_scratch<'b>(&self, op: Op, buffer: &'b GpuBuffer) -> Scratch<'b> {
        let (n_ctx, max_rows) = self.scratch_size(op);
        Scratch { buffer, n_ctx, max_rows }
    }

    fn record(&self, with: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<Vec<Dispatch>> {
        // Different structs: of each matrix and each of its pieces.
        let mut params = Params::new(self.gpu, 16 + 4 * self.head.pieces.len())?;
        let mut recorder = Recorder::new(self.gpu, &mut params);
        with(&mut recorder)?;
        Ok(recorder.finish())
    }
}

impl Rows {
    /// `n_rows` of one sequence, the last of them at position `kv_len` - 1.
    fn new(gpu: &Gpu, n_rows: usize, kv_len: usize) -> Result<Self> {
        let work = Work { n_rows: n_rows as u32, kv_len: kv_len as u32 };
        let position = work.kv_len - work.n_rows;
        let step = Step { n_rows: work.n_rows, first_row: 0, position, kv_len: work.kv_len };
        let mut batch: Batch = bytemuck::Zeroable::zeroed();
        batch.rows[0] = Row { position: work.kv_len - 1, kv_len: work.kv_len, first_page: 0, unused: 0 };
        let uniform = |name, bytes: &[u8]| -> Result<GpuBuffer> {
            let group = MemoryGroup::Activations;
            let buffer = gpu.allocate(name, bytes.len() as u64, BufferUse::Uniform, group)?;
            gpu.upload(&buffer, 0, bytes)?;
            Ok(buffer)
        };
        Ok(Rows {
            step: uniform("step", bytemuck::bytes_of(&step))?,
            batch: uniform("batch", bytemuck::bytes_of(&batch))?,
            work,
        })
    }

    /// As `op` binds them.
    fn bound(&self, op: Op) -> StepRows<'_> {
        let batch = (op != Op::AttentionPrefill).then(|| BoundBuffer::from(&self.batch));
        StepRows { step: (&self.step).into(), batch }
    }
}

/// A matrix of padded sizes in pieces that fit the device.
fn matrix(gpu: &Gpu, n_rows: usize, n_columns: usize, dtype: DType) -> Result<Matrix> {
    let at_once = Matrix::rows_per_piece(n_columns, dtype, gpu.max_binding_bytes());
    let pieces = (0..n_rows).step_by(at_once).map(|first_row| {
        let n_rows = at_once.min(n_rows - first_row);
        let bytes = (n_rows * n_columns * dtype.size_bytes()) as u64;
        Ok(Piece { first_row, n_rows, buffer: numbers(gpu, "weights", bytes, dtype)? })
    });
    let layout = MatrixLayout::preferred_by(gpu.capabilities().strategy);
    Ok(Matrix { dtype, layout, n_rows, n_columns, pieces: pieces.collect::<Result<_>>()? })
}

/// Bytes that are written at once.
const BLOCK_BYTES: usize = 1 << 20;

/// A buffer of numbers between -1/8 and 1/8: zeros alone may be quicker to compute
/// with or to read than what a model holds.
fn numbers(gpu: &Gpu, name: &str, bytes: u64, dtype: DType) -> Result<GpuBuffer> {
    let group = if dtype == DType::F32 { MemoryGroup::Activations } else { MemoryGroup::Weights };
    let buffer = gpu.allocate(name, bytes, BufferUse::Storage, group)?;
    let elems = BLOCK_BYTES.min(bytes as usize) / dtype.size_bytes();
    // Knuth's multiplicative hash; 16 bits of it are exact in f32.
    let number = |i: u32| ((i.wrapping_mul(2_654_435_769) >> 16) as f32 / 32_768.0 - 1.0) / 8.0;
    let values = (0..elems as u32).map(number);
    let block: Vec<u8> = match dtype {
        DType::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
        DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
    };
    for offset in (0..bytes).step_by(block.len().max(1)) {
        let n = (bytes - offset).min(block.len() as u64) as usize;
        gpu.upload(&buffer, offset, &block[..n])?;
    }
    Ok(buffer)
}
