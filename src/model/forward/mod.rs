//! The mutable half of a model: buffers, cache and recorded passes. Passes are recorded
//! once and encoded for every step.

mod cache_bytes;
pub(super) mod f16_overflow;
mod grow_cache;
mod profile;
mod readback;
mod score;

pub use profile::DispatchTiming;
pub use score::ScoredSequence;

use super::Model;
use super::dims::{BATCH_OFFSET, Dims, HEAD_STEP_OFFSET, PAGE_TABLES, Slot};
use super::frame_budget::{CostModel, Pieces, Unfinished};
use super::kv_cache::{GroupPages, KV_GROUPS_MAX, KvCache, PageLists};
use super::output::Output;
use super::progress::{LoadPhase, ProgressFn, report};
use super::recordings::{BatchPass, HeadRows, Recording, Recordings};
use crate::error::Result;
use crate::gpu::{BufferUse, Dispatch, Encoder, Gpu, GpuBuffer, Params, Readback, UploadRing, Work};
use crate::kernels::sample::{self, SampleScratch};
use crate::kernels::{ROWS_MAX, Row, Step, contract};

/// Rows of one sequence in a batch.
pub struct Sequence<'a> {
    /// The sequence's pages.
    pub pages: &'a mut PageLists,
    /// Positions of the sequence already in the cache.
    pub position: usize,
    /// The tokens of the next positions, one per row.
    pub tokens: &'a [u32],
}

/// The mutable half of a model: activations, cache, recorded passes.
pub struct Forward {
    pub(super) dims: Dims,
    pub(super) buffers: Vec<GpuBuffer>,
    pub(super) params: Params,
    pub(super) cache: KvCache,
    pub(super) recordings: Recordings,
    pub(super) ring: UploadRing,
    readback: Readback,
    /// Page table entries of the current step, by group.
    pub(super) page_entries: [Vec<u32>; KV_GROUPS_MAX],
    /// Rows of the current step, for kernels that take rows of any sequences.
    rows: Vec<Row>,
    pub(super) vocab_size: usize,
    /// Whether appends record f16 overflow.
    pub(super) detects_f16_overflow: bool,
    /// Scratch of the GPU sampler, if steps are encoded ahead.
    pub(super) sample_scratch: Option<SampleScratch>,
    /// Counts submits that overwrite the data that steps ahead pass from one to the next.
    pub(super) serial: u64,
    /// Rows of the head's matrix per dispatch; `None` for whole pieces.
    pub(super) head_rows: Option<usize>,
    /// Predicts the time of dispatches.
    pub(super) cost: CostModel,
    /// Passes that run in pieces over several calls.
    pub(super) unfinished: Unfinished,
}

impl Forward {
    /// Allocates all buffers, compiles the kernels, runs each once, and times dispatches.
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Gpu::pipeline`]; [`crate::Error::Cancelled`].
    pub fn new(model: &Model, dims: Dims, progress: &mut ProgressFn<'_>) -> Result<Self> {
        let buffers = Slot::ALL
            .iter()
            .map(|&slot| {
                model.gpu.allocate(slot.name(), dims.slot_bytes(slot), BufferUse::Storage, slot.group())
            })
            .collect::<Result<Vec<_>>>()?;
        upload_ropes(model, &dims, &buffers)?;
        let params = Params::new(&model.gpu, dims.params_capacity())?;
        let cache = KvCache::new(&model.gpu, &dims)?;
        let ring = UploadRing::new(&model.gpu, dims.upload_bytes())?;
        let readback = Readback::new(&model.gpu, dims.readback_bytes())?;
        let vocab_size = model.config.vocab_size;
        let sample_scratch =
            (dims.steps_ahead > 0).then(|| SampleScratch::new(&model.gpu, vocab_size)).transpose()?;
        let mut forward = Forward {
            page_entries: std::array::from_fn(|_| Vec::with_capacity(dims.page_table_entries())),
            rows: Vec::with_capacity(ROWS_MAX),
            vocab_size,
            detects_f16_overflow: model.options.detects_f16_overflow(),
            dims,
            buffers,
            params,
            cache,
            recordings: Recordings::default(),
            ring,
            readback,
            sample_scratch,
            serial: 0,
            head_rows: None,
            cost: CostModel::default(),
            unfinished: Unfinished::default(),
        };
        forward.recordings = forward.recording(model).all(progress)?;
        forward.warm_up(model, progress)?;
        forward.calibrate(model)?;
        report(progress, LoadPhase::WarmUp, 3, 3)?;
        Ok(forward)
    }

    /// Returns the buffers that [`Output::OnGpu`] fills: hidden states after the final
    /// norm, and logits.
    #[must_use]
    pub fn outputs(&self) -> [&GpuBuffer; 2] {
        [Slot::HeadNormed, Slot::Logits].map(|slot| &self.buffers[slot as usize])
    }

    /// Returns the KV cache.
    pub fn cache(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    pub(super) fn recording<'f>(&'f mut self, model: &'f Model) -> Recording<'f> {
        let Forward { dims, buffers, cache, params, head_rows, .. } = self;
        Recording { model, choices: &model.choices, dims, buffers, cache, params, head_rows: *head_rows }
    }

    fn warm_up(&mut self, model: &Model, progress: &mut ProgressFn<'_>) -> Result<()> {
        report(progress, LoadPhase::WarmUp, 0, 3)?;
        if self.sample_scratch.is_some() {
            // Compiled now, so that the first generation does not wait for it.
            let recorder = contract::recorder(&model.gpu, &mut self.params);
            sample::variants().iter().try_for_each(|variant| recorder.compile(variant))?;
        }
        let mut pages = PageLists::new(&model.config, self.dims.n_ctx);
        let n = self.dims.logits_rows.min(2);
        let mut logits = Vec::new();
        let rows = Output::Rows(&mut logits);
        f16_overflow::ignore_overflow(self.run(model, &mut pages, &vec![0; n], 0, rows))?;
        report(progress, LoadPhase::WarmUp, 1, 3)?;
        let last = Output::LastLogits(&mut logits);
        f16_overflow::ignore_overflow(self.run(model, &mut pages, &[0], 0, last))?;
        pages.truncate(&mut self.cache, 0);
        report(progress, LoadPhase::WarmUp, 2, 3)
    }

    /// Runs one chunk of at most [`Dims::chunk`] tokens at `position`. `pages` must hold
    /// exactly that many positions.
    ///
    /// # Errors
    /// [`crate::Error::Limits`] if the cache cannot grow; [`crate::Error::Gpu`] if the
    /// driver reports a fault; [`crate::Error::Overflow`] for f16 overflow;
    /// [`crate::Error::Input`] if argmax finds NaN or infinite logits. `pages` may then
    /// hold pages for the new positions, and the caller truncates it.
    ///
    /// # Panics
    /// If a token is outside the vocabulary or the chunk exceeds the context. The caller
    /// checks its input.
    pub fn run(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        tokens: &[u32],
        position: usize,
        output: Output<'_>,
    ) -> Result<()> {
        self.check_rows(tokens.len(), &output);
        let head_rows = output.head();
        let every_row = head_rows == HeadRows::Every;
        let (encoder, [body, head]) = self.begin(model, pages, tokens, position, every_row)?;
        let recorded = &self.recordings;
        let [layers, mut logits] = recorded.chunk(tokens.len(), head_rows, model.options.deterministic);
        if matches!(output, Output::OnGpu { .. }) {
            // The prefill head, because the decode head may be fused and then writes no
            // hidden states.
            logits = &recorded.head_rows;
        }
        let argmax: &[Dispatch] = if output.is_argmax() { &recorded.argmax } else { &[] };
        let mut pieces = Pieces::new(&model.gpu, encoder, model.options.max_submit);
        let segments = [(layers, work(body)), (logits, work(head)), (argmax, work(head))];
        pieces.run(&mut self.cost, &segments)?;
        self.read_output(&model.gpu, pieces.finish(), tokens.len(), output)
    }

    /// Reserves the pages of a chunk and encodes the uploads of its step. Returns the
    /// steps of the body and of the head.
    pub(super) fn begin(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        tokens: &[u32],
        position: usize,
        every_row: bool,
    ) -> Result<(Encoder, [Step; 2])> {
        let n = tokens.len();
        assert!(n > 0 && n <= self.dims.chunk, "chunk out of range");
        self.reserve(model, pages, position, n)?;
        let body =
            Step { n_rows: n as u32, first_row: 0, position: position as u32, kv_len: (position + n) as u32 };
        let last = Step { n_rows: 1, first_row: n as u32 - 1, ..body };
        let head = if every_row { body } else { last };
        self.rows.clear();
        self.rows.push(Row { position: body.position, kv_len: body.kv_len, first_page: 0, unused: 0 });
        let mut encoder = model.gpu.encoder()?;
        self.stage(&model.gpu, &mut encoder, tokens, &[], [body, head], &[])?;
        Ok((encoder, [body, head]))
    }

    /// Reserves the pages of `n` positions from `position` on, and fills the page tables
    /// of the current step with the sequence's pages.
    pub(super) fn reserve(
        &mut self,
        model: &Model,
        pages: &mut PageLists,
        position: usize,
        n: usize,
    ) -> Result<()> {
        self.ensure_free_pages(model, pages.pages_wanted(&self.cache, position, n))?;
        self.page_entries.iter_mut().for_each(Vec::clear);
        self.enter(&model.gpu, pages, position, n).map(|_| ())
    }

    /// Runs rows of several sequences in one step of the decode kernels, at most
    /// [`Dims::batch`] rows in total. Each row sees the earlier rows of its sequence.
    /// Results are in the order of the sequences.
    ///
    /// # Errors
    /// As [`Forward::run`]. Each sequence's pages may then hold more than its positions.
    ///
    /// # Panics
    /// As [`Forward::run`]; if `output` is not for every row.
    pub fn run_batch(
        &mut self,
        model: &Model,
        sequences: &mut [Sequence<'_>],
        output: Output<'_>,
    ) -> Result<()> {
        let n: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        assert!(n > 0 && n <= self.dims.batch && output.head() == HeadRows::Every, "batch out of range");
        self.ensure_free_pages(model, self.pages_wanted(sequences.iter()))?;
        if !self.recordings.has_batch(n) {
            let pass = self.recording(model).batch(n)?;
            self.recordings.add_batch(n, pass);
        }
        let mut tokens = Vec::with_capacity(n);
        self.clear_rows();
        for Sequence { pages, position, tokens: new } in sequences {
            let first_page = self.enter(&model.gpu, pages, *position, new.len())?;
            self.add_rows(*position, new.len(), first_page);
            tokens.extend_from_slice(new);
        }
        let step = self.step_of_rows();
        let mut encoder = model.gpu.encoder()?;
        self.stage(&model.gpu, &mut encoder, &tokens, &[], [step, step], &[])?;
        let recorded = &self.recordings;
        let BatchPass { body, head } = recorded.batch(n);
        let argmax: &[Dispatch] = if output.is_argmax() { &recorded.argmax } else { &[] };
        let mut pieces = Pieces::new(&model.gpu, encoder, model.options.max_submit);
        let segments = [body, head, argmax].map(|list| (list, work(step)));
        pieces.run(&mut self.cost, &segments)?;
        self.read_output(&model.gpu, pieces.finish(), n, output)
    }

    /// Returns the pages that the rows of several sequences need.
    fn pages_wanted<'s, 'p: 's>(&self, sequences: impl Iterator<Item = &'s Sequence<'p>>) -> GroupPages {
        sequences.fold([0; KV_GROUPS_MAX], |wanted, s| {
            let more = s.pages.pages_wanted(&self.cache, s.position, s.tokens.len());
            std::array::from_fn(|group| wanted[group] + more[group])
        })
    }

    fn clear_rows(&mut self) {
        self.page_entries.iter_mut().for_each(Vec::clear);
        self.rows.clear();
    }

    /// Makes `n` positions of a sequence from `position` on writable, and appends its
    /// pages to the page tables. Returns their index there. The pools must have enough
    /// free pages.
    fn enter(&mut self, gpu: &Gpu, pages: &mut PageLists, position: usize, n: usize) -> Result<u32> {
        assert!(position + n <= self.dims.n_ctx, "a sequence outgrows the context");
        let scratch = &self.buffers[Slot::PageCopy as usize];
        pages.reserve(gpu, &mut self.cache, position, n, scratch)?;
        // The index is the same in every table, because a sequence's lists have equal
        // lengths.
        let first_page = self.page_entries[0].len() as u32;
        let lists = pages.lists().iter().zip(self.cache.pools());
        for (entries, (list, pool)) in self.page_entries.iter_mut().zip(lists) {
            debug_assert_eq!(entries.len(), first_page as usize, "page tables of one layout");
            entries.extend(list.entries(pool));
        }
        Ok(first_page)
    }

    /// Adds `n` consecutive positions of a sequence to the rows of the step.
    fn add_rows(&mut self, position: usize, n: usize, first_page: u32) {
        self.rows.extend((position as u32..(position + n) as u32).map(|position| Row {
            position,
            kv_len: position + 1,
            first_page,
            unused: 0,
        }));
    }

    /// Returns the step of all rows.
    fn step_of_rows(&self) -> Step {
        let kv_len = self.rows.iter().map(|row| row.kv_len).max().unwrap_or(0);
        Step { n_rows: self.rows.len() as u32, first_row: 0, position: 0, kv_len }
    }

    /// Encodes the copies of the data that changes from step to step. `later` is staged
    /// after that data, at the returned offset.
    fn stage(
        &mut self,
        gpu: &Gpu,
        encoder: &mut Encoder,
        tokens: &[u32],
        targets: &[u32],
        [body, head]: [Step; 2],
        later: &[u8],
    ) -> Result<u64> {
        let known = |ids: &[u32]| ids.iter().all(|&id| (id as usize) < self.vocab_size);
        assert!(known(tokens) && known(targets), "token out of range");
        self.serial += 1;
        let buffer = |slot: Slot| &self.buffers[slot as usize];
        let [far, near] = page_tables(&self.page_entries, &self.buffers);
        let pieces = [
            (bytemuck::bytes_of(&body), buffer(Slot::Step), 0),
            (bytemuck::bytes_of(&head), buffer(Slot::Step), HEAD_STEP_OFFSET),
            (bytemuck::cast_slice(&self.rows), buffer(Slot::Step), BATCH_OFFSET),
            (bytemuck::cast_slice(tokens), buffer(Slot::TokenIds), 0),
            (bytemuck::cast_slice(targets), buffer(Slot::Targets), 0),
            far,
            near,
            f16_overflow::cleared(&self.buffers),
        ];
        let pieces = if self.detects_f16_overflow { &pieces[..] } else { &pieces[..pieces.len() - 1] };
        self.ring.stage_with(gpu, encoder, pieces, later)
    }
}

/// Uploads the tables of the rotary embeddings to a set of buffers.
pub(super) fn upload_ropes(model: &Model, dims: &Dims, buffers: &[GpuBuffer]) -> Result<()> {
    let ropes = model.config.attention.ropes.iter();
    [Slot::Rope, Slot::RopeLocal].into_iter().zip(ropes).try_for_each(|(slot, rope)| {
        let table = rope.table(dims.n_ctx, model.config.heads().padded);
        model.gpu.upload(&buffers[slot as usize], 0, bytemuck::cast_slice(&table))
    })
}

pub(super) fn work(step: Step) -> Work {
    Work { n_rows: step.n_rows, kv_len: step.kv_len }
}

/// Returns the page tables of a step and the buffers they go to. The second table is
/// empty for a model with one group of layers.
pub(super) fn page_tables<'a>(
    entries: &'a [Vec<u32>; KV_GROUPS_MAX],
    buffers: &'a [GpuBuffer],
) -> [(&'a [u8], &'a GpuBuffer, u64); KV_GROUPS_MAX] {
    std::array::from_fn(|group| {
        let slot = PAGE_TABLES[group] as usize;
        (bytemuck::cast_slice(&entries[group]), &buffers[slot], 0)
    })
}
