//! A loaded model's own passes, recorded with other kernel candidates, for timing.
//!
//! A trial shares the model's weights. It has separate activations, and a cache with one
//! sequence. The contents of both have no meaning.

use super::Model;
use super::dims::{BATCH_OFFSET, Dims, HEAD_STEP_OFFSET, PAGE_TABLES, Slot};
use super::forward::upload_ropes;
use super::graph::Phase;
use super::kv_cache::{KvCache, PageLists};
use super::recordings::Recording;
use crate::error::{Error, Result};
use crate::gpu::{BufferUse, Dispatch, Gpu, GpuBuffer, MemoryGroup, Params, Work, rounded_bytes};
use crate::kernels::{Candidate, Choices, Op, PAGE_SIZE, Row, Step};
use crate::memory::{MemoryPlan, OverBudget, PlanEntry};
use crate::tensor::DType;

/// Minimum bytes of the timed layers' weights, unless all layers together have fewer.
/// They exceed the last-level cache of most devices, so weights are read from memory as
/// in a whole pass.
const LAYERS_BYTES: u64 = 64 << 20;

/// Cached positions before the decoded row, unless the context is shorter.
const DEPTH: usize = 1024;

/// A part of a pass that belongs to one operation.
pub struct Share {
    /// The operation's dispatches.
    pub(crate) dispatches: Vec<Dispatch>,
    /// The step that they run in.
    pub(crate) work: Work,
    /// Number of times that the model's pass contains them.
    pub(crate) times: f64,
}

/// An operation's dispatches in one pass.
pub struct RecordedOp {
    /// Its shares: one for each kind of layer, and one for the head.
    pub(crate) shares: Vec<Share>,
    /// The parameters that the dispatches bind.
    _params: Params,
}

/// The passes that a trial records; each has its own step.
#[derive(Clone, Copy)]
enum Pass {
    /// One row after [`DEPTH`] positions.
    Decode,
    /// One chunk at the start of a text.
    Prefill,
    /// The scores of the rows of one head.
    Score,
}

impl Pass {
    const ALL: [Pass; 3] = [Pass::Decode, Pass::Prefill, Pass::Score];

    /// Returns the pass in which an operation is timed.
    const fn of(op: Op) -> Pass {
        match op {
            Op::Gemv | Op::NormGemv | Op::RmsGemv | Op::AttentionDecode => Pass::Decode,
            Op::LayerNorm | Op::RmsNorm | Op::Gemm | Op::AttentionPrefill => Pass::Prefill,
            Op::Score => Pass::Score,
        }
    }
}

/// Layers that do the same work.
struct LayerKind {
    /// The layers that are timed.
    timed: Vec<usize>,
    /// Number of such layers in the model.
    n_layers: usize,
}

/// Buffers for the passes of a model with any of some candidates.
pub struct Trial<'m> {
    model: &'m Model,
    /// By slot, except the step. Each pass has its own step.
    buffers: Vec<GpuBuffer>,
    steps: Vec<GpuBuffer>,
    works: [Work; 3],
    cache: KvCache,
    kinds: Vec<LayerKind>,
}

impl<'m> Trial<'m> {
    /// Allocates the buffers. Each is large enough for all `candidates`. `held` is the
    /// part of the memory budget that the model already takes.
    ///
    /// # Errors
    /// [`Error::Budget`] before anything is allocated; as [`Dims::new`] for `choices`; as
    /// [`Gpu::allocate`].
    pub fn new(
        model: &'m Model,
        held: MemoryPlan,
        choices: &Choices,
        candidates: &[&'static Candidate],
    ) -> Result<Self> {
        let gpu = &model.gpu;
        let mut dims = dims(model, choices)?;
        let mut all = vec![dims.clone()];
        // A candidate that is invalid for the model is refused when it is recorded.
        all.extend(candidates.iter().filter_map(|candidate| {
            let mut choices = *choices;
            choices.set(candidate);
            self::dims(model, &choices).ok()
        }));
        let least = |of: fn(&Dims) -> usize| all.iter().map(of).min().unwrap_or(1);
        let (chunk, scored) = (least(|dims| dims.chunk), least(Dims::score_rows_max));
        let depth = DEPTH.min(dims.n_ctx - 1);
        let n_positions = chunk.max(depth + 1);
        dims.initial_pages = dims.initial_pages.map(|pages| pages.min(1) * n_positions.div_ceil(PAGE_SIZE));
        let slot_bytes = |slot: Slot| all.iter().map(|dims| dims.slot_bytes(slot)).max().unwrap_or_default();
        check_memory_budget(model, held, plan(&dims, slot_bytes))?;

        let allocate =
            |slot: Slot| gpu.allocate(slot.name(), slot_bytes(slot), BufferUse::Storage, slot.group());
        let buffers = Slot::ALL.into_iter().map(allocate).collect::<Result<Vec<_>>>()?;
        let steps = Pass::ALL.iter().map(|_| allocate(Slot::Step)).collect::<Result<Vec<_>>>()?;
        upload_ropes(model, &dims, &buffers)?;
        let cache = KvCache::new(gpu, &dims)?;
        let work = |n_rows: usize, kv_len: usize| Work { n_rows: n_rows as u32, kv_len: kv_len as u32 };
        let works = [work(1, depth + 1), work(chunk, chunk), work(scored, scored)];
        let kinds = layer_kinds(model);
        let mut trial = Trial { model, buffers, steps, works, cache, kinds };
        trial.upload_steps()?;
        trial.upload_pages(dims.n_ctx, n_positions)?;
        trial.fill()?;
        Ok(trial)
    }

    /// Returns the maximum number of shares of an operation.
    #[must_use]
    pub fn shares_max(&self) -> usize {
        self.kinds.len() + 1
    }

    /// Records the pass that contains `op`, with the implementations in `choices`.
    /// Returns the operation's part of the pass.
    ///
    /// # Errors
    /// As [`Dims::new`], [`Gpu::allocate`], [`crate::gpu::Recorder::dispatch`].
    ///
    /// # Panics
    /// If the buffers are too small, because the trial was created for other candidates.
    pub fn record(&mut self, op: Op, choices: &Choices) -> Result<RecordedOp> {
        let dims = dims(self.model, choices)?;
        let pass = Pass::of(op);
        let fits = |slot: Slot| dims.slot_bytes(slot) <= self.buffers[slot as usize].bytes();
        assert!(Slot::ALL.into_iter().all(fits), "the trial has buffers for other candidates");
        let mut params = Params::new(&self.model.gpu, dims.params_capacity())?;
        self.exchange_step(pass);
        let shares = self.record_pass(op, pass, choices, &dims, &mut params);
        self.exchange_step(pass);
        Ok(RecordedOp { shares: shares?, _params: params })
    }

    /// Exchanges the step's buffer with the buffer of a pass, or back.
    fn exchange_step(&mut self, pass: Pass) {
        std::mem::swap(&mut self.buffers[Slot::Step as usize], &mut self.steps[pass as usize]);
    }

    fn record_pass(
        &self,
        op: Op,
        pass: Pass,
        choices: &Choices,
        dims: &Dims,
        params: &mut Params,
    ) -> Result<Vec<Share>> {
        let mut recording = Recording {
            model: self.model,
            choices,
            dims,
            buffers: &self.buffers,
            cache: &self.cache,
            params,
            head_rows: None,
        };
        let work = self.works[pass as usize];
        let share = |dispatches: Vec<Dispatch>, times| {
            let own = |dispatch: &Dispatch| dispatch.section() == Some(op as usize);
            Share { dispatches: dispatches.into_iter().filter(own).collect(), work, times }
        };
        let phase = match pass {
            Pass::Decode => Phase::Decode { batch: 1 },
            Pass::Prefill => Phase::Prefill,
            Pass::Score => return Ok(vec![share(recording.score()?, 1.0)]),
        };
        let mut shares = Vec::new();
        for LayerKind { timed, n_layers } in &self.kinds {
            let times = *n_layers as f64 / timed.len() as f64;
            shares.push(share(recording.layers(phase, timed)?, times));
        }
        if matches!(pass, Pass::Decode) {
            shares.push(share(recording.head(phase)?, 1.0));
        }
        shares.retain(|share| !share.dispatches.is_empty());
        Ok(shares)
    }

    fn upload_steps(&self) -> Result<()> {
        for (step, &Work { n_rows, kv_len }) in self.steps.iter().zip(&self.works) {
            let position = kv_len - n_rows;
            let rows = Step { n_rows, first_row: 0, position, kv_len };
            let row = Row { position: kv_len - 1, kv_len, first_page: 0, unused: 0 };
            let gpu = &self.model.gpu;
            gpu.upload(step, 0, bytemuck::bytes_of(&rows))?;
            gpu.upload(step, HEAD_STEP_OFFSET, bytemuck::bytes_of(&rows))?;
            gpu.upload(step, BATCH_OFFSET, bytemuck::bytes_of(&row))?;
        }
        Ok(())
    }

    /// Takes the pages of one sequence and uploads the page tables.
    fn upload_pages(&mut self, n_ctx: usize, n_positions: usize) -> Result<()> {
        let gpu = &self.model.gpu;
        let mut pages = PageLists::new(&self.model.config, n_ctx);
        let scratch = &self.buffers[Slot::PageCopy as usize];
        pages.reserve(gpu, &mut self.cache, 0, n_positions, scratch)?;
        for ((list, pool), slot) in pages.lists().iter().zip(self.cache.pools()).zip(PAGE_TABLES) {
            let entries: Vec<u32> = list.entries(pool).collect();
            gpu.upload(&self.buffers[slot as usize], 0, bytemuck::cast_slice(&entries))?;
        }
        Ok(())
    }

    /// Writes small numbers to the activations and to the timed layers' keys and values.
    /// Zeros might be faster to read or to compute with than a model's values.
    fn fill(&self) -> Result<()> {
        let gpu = &self.model.gpu;
        for slot in FILLED {
            fill(gpu, &self.buffers[slot as usize], DType::F32)?;
        }
        for &layer in self.kinds.iter().flat_map(|kind| &kind.timed) {
            for slab in self.cache.slabs(layer) {
                fill(gpu, slab, self.model.options.kv_dtype)?;
            }
        }
        gpu.flush()
    }
}

/// The slots that hold activations.
const FILLED: [Slot; 9] = [
    Slot::X,
    Slot::Normed,
    Slot::Qkv,
    Slot::Attention,
    Slot::Inner,
    Slot::Gate,
    Slot::Branch,
    Slot::HeadNormed,
    Slot::Logits,
];

fn dims(model: &Model, choices: &Choices) -> Result<Dims> {
    let Model { config, options, gpu, .. } = model;
    Dims::new(config, options, &gpu.capabilities(), choices, gpu.max_binding_bytes())
}

/// Lists what a trial allocates.
fn plan(dims: &Dims, slot_bytes: impl Fn(Slot) -> u64) -> MemoryPlan {
    let entry = |slot: Slot| PlanEntry {
        group: slot.group(),
        name: slot.name(),
        bytes: rounded_bytes(slot_bytes(slot)),
    };
    let mut entries: Vec<PlanEntry> = Slot::ALL.into_iter().map(entry).collect();
    entries.extend(Pass::ALL.map(|_| entry(Slot::Step)));
    entries.extend(dims.pool_entries());
    // The candidates of one operation are compared with each other. Each has separate
    // parameters.
    let candidates = Op::ALL.map(|op| op.candidates().len()).into_iter().max().unwrap_or(1);
    let bytes = dims.params_capacity() as u64 * Params::SLOT_BYTES * candidates as u64;
    entries.push(PlanEntry { group: MemoryGroup::Params, name: "params", bytes });
    MemoryPlan { entries }
}

fn check_memory_budget(model: &Model, mut held: MemoryPlan, more: MemoryPlan) -> Result<()> {
    let Some(budget_bytes) = model.options.memory_budget else { return Ok(()) };
    held.entries.extend(more.entries);
    let least_bytes = held.total_bytes();
    if least_bytes <= budget_bytes {
        return Ok(());
    }
    Err(Error::Budget(Box::new(OverBudget { plan: held, budget_bytes, fits: Vec::new(), least_bytes })))
}

/// Groups the layers that do the same work, and selects layers to time.
fn layer_kinds(model: &Model) -> Vec<LayerKind> {
    let n_layer = model.weights.layers.len();
    let layer_bytes: u64 = model.weights.layers.first().map_or(0, |layer| {
        let matrices = [&layer.qkv, &layer.out, &layer.up, &layer.down];
        matrices.iter().flat_map(|linear| &linear.weights.pieces).map(|piece| piece.buffer.bytes()).sum()
    });
    let n_timed = (LAYERS_BYTES.div_ceil(layer_bytes.max(1)) as usize).clamp(1, n_layer.max(1));
    let attention = &model.config.attention.layers;
    let mut kinds: Vec<LayerKind> = Vec::new();
    for layer in 0..n_layer {
        match kinds.iter_mut().find(|kind| attention[kind.timed[0]] == attention[layer]) {
            Some(kind) => kind.timed.push(layer),
            None => kinds.push(LayerKind { timed: vec![layer], n_layers: 0 }),
        }
    }
    for kind in &mut kinds {
        kind.n_layers = kind.timed.len();
        kind.timed.truncate((n_timed * kind.n_layers).div_ceil(n_layer));
    }
    kinds
}

/// Bytes written per upload.
const BLOCK_BYTES: usize = 1 << 20;

/// Writes numbers between -1/8 and 1/8 to a buffer.
fn fill(gpu: &Gpu, buffer: &GpuBuffer, dtype: DType) -> Result<()> {
    let bytes = buffer.bytes();
    let elems = BLOCK_BYTES.min(bytes as usize) / dtype.size_bytes();
    // Knuth's multiplicative hash; its upper 16 bits are exact in f32.
    let number = |i: u32| ((i.wrapping_mul(2_654_435_769) >> 16) as f32 / 32_768.0 - 1.0) / 8.0;
    let values = (0..elems as u32).map(number);
    let block: Vec<u8> = match dtype {
        DType::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
        DType::F32 => values.flat_map(f32::to_le_bytes).collect(),
    };
    for offset in (0..bytes).step_by(block.len().max(1)) {
        let n = (bytes - offset).min(block.len() as u64) as usize;
        gpu.upload(buffer, offset, &block[..n])?;
    }
    Ok(())
}
