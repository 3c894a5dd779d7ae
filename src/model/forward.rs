//! The mutable half of a model: buffers, cache, and passes that are recorded
//! once and encoded for every step.

mod cache;
mod profile;
mod room;
mod score;

pub use profile::DispatchTiming;
pub use score::ScoredSequence;

use super::Model;
use super::dims::{BATCH_OFFSET, Dims, HEAD_STEP_OFFSET, Slot};
use super::kv_cache::{KvPool, PageList};
use super::loader::{LoadPhase, ProgressFn, report};
use super::output::{Output, bad_logits};
use super::recordings::{BatchPass, Recording, Recordings};
use crate::error::Result;
use crate::gpu::{BufferUse, Encoder, Gpu, GpuBuffer, Params, Readback, UploadRing, Work};
use crate::kernels::sample::{self, SampleScratch};
use crate::kernels::{ROWS_MAX, Row, Step, argmax};

/// Rows of one sequence in a batch.
pub struct Sequence<'a> {
    /// The sequence's pages.
    pub pages: &'a mut PageList,
    /// Positions that they hold already.
    pub position: usize,
    /// The tokens of the next positions, a row each.
    pub tokens: &'a [u32],
}

/// The mutable half of a model: activations, cache, recorded passes.
pub struct Forward {
    dims: Dims,
    pub(super) buffers: Vec<GpuBuffer>,
    pub(super) params: Params,
    pool: KvPool,
    pub(super) recordings: Recordings,
    pub(super) ring: UploadRing,
    readback: Readback,
    /// Entries of the page table of the step at hand.
    pub(super) page_entries: Vec<u32>,
    /// Rows of the step at hand, where they are those of several sequences.
    rows: Vec<Row>,
    vocab_size: usize,
    /// What the sampler's kernels pass on, where steps are encoded ahead.
    pub(super) sample_scratch: Option<SampleScratch>,
    /// Counts submits that change what steps ahead hand on.
    pub(super) serial: u64,
}

impl Forward {
    /// Allocates everything, compiles the kernels and runs each once.
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Gpu::pipeline`]; [`crate::Error::Cancelled`].
    pub fn new(gpu: &Gpu, model: &Model, dims: Dims, progress: &mut ProgressFn<'_>) -> Result<Self> {
        let buffers = Slot::ALL
            .iter()
            .map(|&slot| gpu.allocate(slot.name(), dims.slot_bytes(slot), BufferUse::Storage, slot.group()))
            .collect::<Result<Vec<_>>>()?;
        let params = Params::new(gpu, dims.params_capacity())?;
        let pool = KvPool::new(gpu, &dims, model.config.n_layer)?;
        let ring = UploadRing::new(gpu, dims.upload_bytes())?;
        let readback = Readback::new(gpu, dims.readback_bytes())?;
        let vocab_size = model.config.vocab_size;
        let sample_scratch =
            (dims.steps_ahead > 0).then(|| SampleScratch::new(gpu, vocab_size)).transpose()?;
        let mut forward = Forward {
            page_entries: Vec::with_capacity(dims.page_table_entries()),
            rows: Vec::with_capacity(ROWS_MAX),
            vocab_size,
            dims,
            buffers,
            params,
            pool,
            recordings: Recordings::default(),
            ring,
            readback,
            sample_scratch,
            serial: 0,
        };
        forward.recordings = forward.recording(gpu, model).all(progress)?;
        forward.warm_up(gpu, model, progress)?;
        Ok(forward)
    }

    /// The sizes of the buffers.
    #[must_use]
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// The page pool.
    pub fn pool(&mut self) -> &mut KvPool {
        &mut self.pool
    }

    fn recording<'f>(&'f mut self, gpu: &'f Gpu, model: &'f Model) -> Recording<'f> {
        let Forward { dims, buffers, pool, params, .. } = self;
        Recording { gpu, model, dims, buffers, pool, params }
    }

    fn warm_up(&mut self, gpu: &Gpu, model: &Model, progress: &mut ProgressFn<'_>) -> Result<()> {
        report(progress, LoadPhase::WarmUp, 0, 2)?;
        if self.sample_scratch.is_some() {
            // The first text shall find them compiled.
            sample::variants().iter().try_for_each(|variant| gpu.pipeline(variant).map(|_| ()))?;
        }
        let mut pages = PageList::with_capacity(self.dims.n_ctx);
        let n = self.dims.logits_rows.min(2);
        let mut logits = Vec::new();
        self.run(gpu, model, &mut pages, &vec![0; n], 0, Output::Rows(&mut logits))?;
        report(progress, LoadPhase::WarmUp, 1, 2)?;
        self.run(gpu, model, &mut pages, &[0], 0, Output::LastLogits(&mut logits))?;
        pages.truncate(&mut self.pool, 0);
        report(progress, LoadPhase::WarmUp, 2, 2)
    }

    /// Runs one chunk of at most [`Dims::chunk`] tokens at `position`, the
    /// number of positions that `pages` holds already.
    ///
    /// # Errors
    /// [`crate::Error::Limits`] when the cache cannot grow, [`crate::Error::Gpu`] for a fault
    /// of the driver. `pages` may then hold pages for the new positions: the
    /// caller truncates it.
    ///
    /// # Panics
    /// When a token is outside the vocabulary or the chunk outside the context:
    /// the caller checks its input.
    pub fn run(
        &mut self,
        gpu: &Gpu,
        model: &Model,
        pages: &mut PageList,
        tokens: &[u32],
        position: usize,
        output: Output<'_>,
    ) -> Result<()> {
        self.check_rows(tokens.len(), &output);
        let every_row = output.is_every_row();
        let (mut encoder, [body, head]) = self.begin(gpu, model, pages, tokens, position, every_row)?;
        let decode = tokens.len() == 1 && !model.options.deterministic;
        let recorded = &self.recordings;
        let one = recorded.batch(1);
        encoder.pass(|pass| {
            pass.run(if decode { &one.body } else { &recorded.prefill }, work(body));
            let head_rows = if decode { &one.head } else { &recorded.head_rows };
            match output {
                Output::None => {}
                Output::Rows(_) | Output::ArgmaxRows(_) => pass.run(head_rows, work(head)),
                Output::LastLogits(_) | Output::Argmax(_) => {
                    let deterministic = model.options.deterministic;
                    pass.run(if deterministic { &recorded.head_rows } else { &one.head }, work(head));
                }
            }
            if output.is_argmax() {
                pass.run(&recorded.argmax, work(head));
            }
        });
        self.bring_back(gpu, encoder, tokens.len(), output)
    }

    /// Takes the pages that a chunk needs and encodes the uploads of its step;
    /// returns the steps of the body and of the head.
    fn begin(
        &mut self,
        gpu: &Gpu,
        model: &Model,
        pages: &mut PageList,
        tokens: &[u32],
        position: usize,
        every_row: bool,
    ) -> Result<(Encoder, [Step; 2])> {
        let n = tokens.len();
        assert!(n > 0 && n <= self.dims.chunk, "chunk out of range");
        self.reserve(gpu, model, pages, position, n)?;
        let body =
            Step { n_rows: n as u32, first_row: 0, position: position as u32, kv_len: (position + n) as u32 };
        let last = Step { n_rows: 1, first_row: n as u32 - 1, ..body };
        let head = if every_row { body } else { last };
        self.rows.clear();
        self.rows.push(Row { position: body.position, kv_len: body.kv_len, first_page: 0, unused: 0 });
        let mut encoder = gpu.encoder()?;
        self.stage(gpu, &mut encoder, tokens, &[], [body, head], &[])?;
        Ok((encoder, [body, head]))
    }

    /// Takes the pages that `n` positions behind `position` need, and lists the
    /// sequence's pages as the page table of the step at hand.
    pub(super) fn reserve(
        &mut self,
        gpu: &Gpu,
        model: &Model,
        pages: &mut PageList,
        position: usize,
        n: usize,
    ) -> Result<()> {
        self.make_room(gpu, model, pages.pages_wanted(&self.pool, position, n))?;
        self.page_entries.clear();
        self.enter(gpu, pages, position, n).map(|_| ())
    }

    /// Runs rows of several sequences, at most [`Dims::batch`] in all, through the
    /// decode kernels in one step; every row of a sequence sees those before it.
    /// Rows come back in the order of the sequences.
    ///
    /// # Errors
    /// As [`Forward::run`]; each sequence's pages may then hold more than its
    /// positions.
    ///
    /// # Panics
    /// As [`Forward::run`]; for an output of the last row alone.
    pub fn run_batch(
        &mut self,
        gpu: &Gpu,
        model: &Model,
        sequences: &mut [Sequence<'_>],
        output: Output<'_>,
    ) -> Result<()> {
        let n: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
        assert!(n > 0 && n <= self.dims.batch && output.is_every_row(), "batch out of range");
        let wanted = sequences.iter().map(|s| s.pages.pages_wanted(&self.pool, s.position, s.tokens.len()));
        self.make_room(gpu, model, wanted.sum())?;
        if !self.recordings.has_batch(n) {
            let pass = self.recording(gpu, model).batch(n)?;
            self.recordings.add_batch(n, pass);
        }
        let mut tokens = Vec::with_capacity(n);
        self.clear_rows();
        for Sequence { pages, position, tokens: new } in sequences {
            let first_page = self.enter(gpu, pages, *position, new.len())?;
            self.add_rows(*position, new.len(), first_page);
            tokens.extend_from_slice(new);
        }
        let step = self.step_of_rows();
        let mut encoder = gpu.encoder()?;
        self.stage(gpu, &mut encoder, &tokens, &[], [step, step], &[])?;
        let recorded = &self.recordings;
        encoder.pass(|pass| {
            let BatchPass { body, head } = recorded.batch(n);
            pass.run(body, work(step));
            pass.run(head, work(step));
            if output.is_argmax() {
                pass.run(&recorded.argmax, work(step));
            }
        });
        self.bring_back(gpu, encoder, n, output)
    }

    fn clear_rows(&mut self) {
        self.page_entries.clear();
        self.rows.clear();
    }

    /// Makes `n` positions of a sequence behind `position` writable and lists its
    /// pages; returns where they begin in the page table. The pool has room.
    fn enter(&mut self, gpu: &Gpu, pages: &mut PageList, position: usize, n: usize) -> Result<u32> {
        assert!(position + n <= self.dims.n_ctx, "a sequence outgrows the context");
        let scratch = &self.buffers[Slot::PageCopy as usize];
        pages.reserve(gpu, &mut self.pool, position, n, scratch)?;
        let first_page = self.page_entries.len() as u32;
        self.page_entries.extend(pages.pages().iter().map(|&page| self.pool.entry(page)));
        Ok(first_page)
    }

    /// Adds `n` neighbouring positions of a sequence to the rows of the step.
    fn add_rows(&mut self, position: usize, n: usize, first_page: u32) {
        self.rows.extend((position as u32..(position + n) as u32).map(|position| Row {
            position,
            kv_len: position + 1,
            first_page,
            unused: 0,
        }));
    }

    /// The step of all rows.
    fn step_of_rows(&self) -> Step {
        let kv_len = self.rows.iter().map(|row| row.kv_len).max().unwrap_or(0);
        Step { n_rows: self.rows.len() as u32, first_row: 0, position: 0, kv_len }
    }

    fn check_rows(&self, n: usize, output: &Output<'_>) {
        let most = match output {
            Output::Rows(_) => self.dims.logits_rows,
            Output::ArgmaxRows(_) => self.dims.batch,
            _ => n,
        };
        assert!(n <= most, "more rows than there is room for");
    }

    /// Submits a pass and reads what is wanted of it.
    fn bring_back(&mut self, gpu: &Gpu, encoder: Encoder, n_rows: usize, output: Output<'_>) -> Result<()> {
        let vocab_size = self.vocab_size;
        match output {
            Output::None => self.submit(gpu, encoder),
            Output::LastLogits(logits) => {
                logits.clear();
                self.read(gpu, encoder, Slot::Logits, vocab_size * 4, |bytes| {
                    logits.extend_from_slice(bytemuck::cast_slice(bytes));
                })
            }
            Output::Rows(logits) => {
                let stride = self.dims.slot_bytes(Slot::Logits) as usize / self.dims.logits_rows;
                self.read(gpu, encoder, Slot::Logits, n_rows * stride, |bytes| {
                    for row in bytes.chunks(stride) {
                        logits.extend_from_slice(bytemuck::cast_slice(&row[..vocab_size * 4]));
                    }
                })
            }
            Output::Argmax(token) => {
                let [id, bad] = self.read(gpu, encoder, Slot::Argmax, 8, |bytes| {
                    let words: &[u32] = bytemuck::cast_slice(bytes);
                    [words[0], words[1]]
                })?;
                *token = id;
                if bad == 0 { Ok(()) } else { Err(bad_logits()) }
            }
            Output::ArgmaxRows(tokens) => {
                let bytes = n_rows * argmax::RESULT_BYTES as usize;
                let bad = self.read(gpu, encoder, Slot::Argmax, bytes, |bytes| {
                    let rows: &[[u32; 4]] = bytemuck::cast_slice(bytes);
                    tokens.extend(rows.iter().map(|row| row[0]));
                    rows.iter().any(|row| row[1] != 0)
                })?;
                if bad { Err(bad_logits()) } else { Ok(()) }
            }
        }
    }

    /// Encodes the copies of what changes from step to step; `later` is staged behind
    /// it, at the offset returned.
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
        let pieces = [
            (bytemuck::bytes_of(&body), buffer(Slot::Step), 0),
            (bytemuck::bytes_of(&head), buffer(Slot::Step), HEAD_STEP_OFFSET),
            (bytemuck::cast_slice(&self.rows), buffer(Slot::Step), BATCH_OFFSET),
            (bytemuck::cast_slice(tokens), buffer(Slot::TokenIds), 0),
            (bytemuck::cast_slice(targets), buffer(Slot::Targets), 0),
            (bytemuck::cast_slice(&self.page_entries), buffer(Slot::PageTable), 0),
        ];
        self.ring.stage_with(gpu, encoder, &pieces, later)
    }

    fn submit(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        encoder.submit(gpu)?;
        self.ring.submitted(gpu)
    }

    fn read<T>(
        &mut self,
        gpu: &Gpu,
        mut encoder: Encoder,
        slot: Slot,
        bytes: usize,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        self.readback.copy_from(&mut encoder, &self.buffers[slot as usize], bytes as u64);
        let ring = &mut self.ring;
        self.readback.submit_and_read(gpu, encoder, bytes as u64, || ring.submitted(gpu), read)
    }
}

pub(super) fn work(step: Step) -> Work {
    Work { n_rows: step.n_rows, kv_len: step.kv_len }
}
