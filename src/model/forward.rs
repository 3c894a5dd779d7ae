//! The mutable half of a model: buffers, cache, and passes that are recorded
//! once and encoded for every step.

use super::Model;
use super::dims::{Dims, HEAD_STEP_OFFSET, Slot};
use super::graph::{Graph, Phase};
use super::kv_cache::{KvPool, PageList};
use super::loader::{LoadPhase, ProgressFn, report};
use crate::error::{Error, Result};
use crate::gpu::{
    BufferUse, Dispatch, Encoder, Gpu, GpuBuffer, Params, Readback, Recorder, UploadRing, Work,
};
use crate::kernels::{Step, argmax};

/// What a pass is to bring back.
pub enum Output<'a> {
    /// Nothing: the tokens only enter the cache.
    None,
    /// The logits of the last row, `[vocab_size]`.
    LastLogits(&'a mut Vec<f32>),
    /// The most probable token behind the last row.
    Argmax(&'a mut u32),
    /// The logits of each row, `[vocab_size]`, with the row's index.
    EachRow(&'a mut dyn FnMut(usize, &[f32]) -> Result<()>),
}

/// Dispatches that depend on the pool's buffers or on the phase.
#[derive(Debug, Default)]
struct Recordings {
    /// Any number of rows.
    prefill: Vec<Dispatch>,
    /// One row.
    decode: Vec<Dispatch>,
    /// Final norm and logits of one row.
    head_one: Vec<Dispatch>,
    /// Final norm and logits of some rows.
    head_rows: Vec<Dispatch>,
    argmax: Vec<Dispatch>,
}

/// The mutable half of a model: activations, cache, recorded passes.
pub struct Forward {
    dims: Dims,
    buffers: Vec<GpuBuffer>,
    params: Params,
    pool: KvPool,
    recordings: Recordings,
    ring: UploadRing,
    readback: Readback,
    /// Entries of the page table of the step at hand.
    page_entries: Vec<u32>,
    vocab_size: usize,
}

impl Forward {
    /// Allocates everything, compiles the kernels and runs each once.
    ///
    /// # Errors
    /// As [`Gpu::allocate`] and [`Gpu::pipeline`]; [`Error::Cancelled`].
    pub fn new(gpu: &Gpu, model: &Model, dims: Dims, progress: &mut ProgressFn<'_>) -> Result<Self> {
        let buffers = Slot::ALL
            .iter()
            .map(|&slot| gpu.allocate(slot.name(), dims.slot_bytes(slot), BufferUse::Storage, slot.group()))
            .collect::<Result<Vec<_>>>()?;
        let params = Params::new(gpu, dims.params_capacity())?;
        let pool = KvPool::new(gpu, &dims, model.config.n_layer)?;
        let ring = UploadRing::new(gpu, dims.upload_bytes())?;
        let readback = Readback::new(gpu, dims.slot_bytes(Slot::Logits))?;
        let mut forward = Forward {
            page_entries: Vec::with_capacity(dims.initial_pages),
            vocab_size: model.config.vocab_size,
            dims,
            buffers,
            params,
            pool,
            recordings: Recordings::default(),
            ring,
            readback,
        };
        forward.record(gpu, model, progress)?;
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

    /// Records all passes against the present buffers.
    fn record(&mut self, gpu: &Gpu, model: &Model, progress: &mut ProgressFn<'_>) -> Result<()> {
        let layers = model.config.n_layer as u64;
        let mut tick = |done: u64| report(progress, LoadPhase::Compile, done, 2 * layers + 2);
        let Forward { buffers, params, pool, dims, .. } = self;
        let graph = Graph { config: &model.config, options: &model.options, gpu, buffers, pool, dims };
        let mut passes = Vec::new();
        for (i, phase) in [Phase::Prefill, Phase::Decode].into_iter().enumerate() {
            let mut recorder = Recorder::new(gpu, params);
            graph.embed(&mut recorder, &model.weights)?;
            for (layer, weights) in model.weights.layers.iter().enumerate() {
                graph.layer(&mut recorder, phase, layer, weights)?;
                tick(i as u64 * layers + layer as u64 + 1)?;
            }
            passes.push(recorder.finish());
        }
        let mut heads = Vec::new();
        for phase in [Phase::Prefill, Phase::Decode] {
            let mut recorder = Recorder::new(gpu, params);
            graph.head(&mut recorder, phase, &model.weights)?;
            heads.push(recorder.finish());
        }
        tick(2 * layers + 1)?;
        let mut recorder = Recorder::new(gpu, params);
        argmax::record(&mut recorder, self.vocab_size, graph.slot(Slot::Logits), graph.slot(Slot::Argmax))?;
        let argmax = recorder.finish();
        tick(2 * layers + 2)?;
        let [prefill, decode] = passes.try_into().expect("two phases");
        let [head_rows, head_one] = heads.try_into().expect("two phases");
        self.recordings = Recordings { prefill, decode, head_one, head_rows, argmax };
        Ok(())
    }

    fn warm_up(&mut self, gpu: &Gpu, model: &Model, progress: &mut ProgressFn<'_>) -> Result<()> {
        report(progress, LoadPhase::WarmUp, 0, 2)?;
        let mut pages = PageList::with_capacity(self.dims.n_ctx);
        let n = self.dims.chunk.min(2);
        let mut logits = Vec::new();
        self.run(gpu, model, &mut pages, &vec![0; n], 0, Output::EachRow(&mut |_, _| Ok(())))?;
        report(progress, LoadPhase::WarmUp, 1, 2)?;
        self.run(gpu, model, &mut pages, &[0], 0, Output::LastLogits(&mut logits))?;
        pages.truncate(&mut self.pool, 0);
        report(progress, LoadPhase::WarmUp, 2, 2)
    }

    /// Runs one chunk of at most [`Dims::chunk`] tokens at `position`, the
    /// number of positions that `pages` holds already.
    ///
    /// # Errors
    /// [`Error::Limits`] when the cache cannot grow, [`Error::Gpu`] for a fault
    /// of the driver; `pages` then still holds the earlier positions.
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
        let n = tokens.len();
        assert!(n > 0 && n <= self.dims.chunk && position + n <= self.dims.n_ctx, "chunk out of range");
        assert!(tokens.iter().all(|&id| (id as usize) < self.vocab_size), "token out of range");
        let wanted = pages.pages_wanted(&self.pool, position, n);
        if wanted > self.pool.n_free() {
            let target = self.pool.n_pages() + (wanted - self.pool.n_free()).max(self.pool.n_pages());
            self.grow(gpu, model, target, wanted)?;
        }
        let scratch = &self.buffers[Slot::PageCopy as usize];
        pages.reserve(gpu, &mut self.pool, position, n, scratch)?;
        self.page_entries.clear();
        self.page_entries.extend(pages.pages().iter().map(|&page| self.pool.entry(page)));

        let body =
            Step { n_rows: n as u32, first_row: 0, position: position as u32, kv_len: (position + n) as u32 };
        let last = Step { n_rows: 1, first_row: n as u32 - 1, ..body };
        let mut encoder = gpu.encoder();
        self.stage(gpu, &mut encoder, tokens, body, last)?;
        let decode = n == 1 && !model.options.deterministic;
        let Recordings { prefill, decode: one, head_one, argmax, .. } = &self.recordings;
        let head = matches!(output, Output::LastLogits(_) | Output::Argmax(_));
        encoder.pass(|pass| {
            pass.run(if decode { one } else { prefill }, work(body));
            if head {
                pass.run(head_one, work(last));
            }
            if matches!(output, Output::Argmax(_)) {
                pass.run(argmax, work(last));
            }
        });
        match output {
            Output::None => self.submit(gpu, encoder),
            Output::LastLogits(logits) => {
                logits.clear();
                self.read(gpu, encoder, Slot::Logits, self.vocab_size * 4, |bytes| {
                    logits.extend_from_slice(bytemuck::cast_slice(bytes));
                })
            }
            Output::Argmax(token) => {
                let [id, bad] = self.read(gpu, encoder, Slot::Argmax, 8, |bytes| {
                    let words: &[u32] = bytemuck::cast_slice(bytes);
                    [words[0], words[1]]
                })?;
                *token = id;
                if bad == 0 { Ok(()) } else { Err(bad_logits(position + n - 1)) }
            }
            Output::EachRow(each) => {
                self.submit(gpu, encoder)?;
                self.each_row(gpu, body, each)
            }
        }
    }

    /// Head and readback in blocks of rows.
    fn each_row(
        &mut self,
        gpu: &Gpu,
        body: Step,
        each: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let stride = self.dims.slot_bytes(Slot::Logits) as usize / self.dims.logits_rows / 4;
        let vocab_size = self.vocab_size;
        for first in (0..body.n_rows as usize).step_by(self.dims.logits_rows) {
            let n_rows = (body.n_rows as usize - first).min(self.dims.logits_rows);
            let step = Step { n_rows: n_rows as u32, first_row: first as u32, ..body };
            let mut encoder = gpu.encoder();
            self.stage(gpu, &mut encoder, &[], body, step)?;
            encoder.pass(|pass| pass.run(&self.recordings.head_rows, work(step)));
            let bytes = n_rows * stride * 4;
            self.read(gpu, encoder, Slot::Logits, bytes, |bytes| {
                let rows: &[f32] = bytemuck::cast_slice(bytes);
                rows.chunks(stride).enumerate().try_for_each(|(i, row)| each(first + i, &row[..vocab_size]))
            })??;
        }
        Ok(())
    }

    /// Encodes the copies of what changes from step to step.
    fn stage(
        &mut self,
        gpu: &Gpu,
        encoder: &mut Encoder,
        tokens: &[u32],
        body: Step,
        head: Step,
    ) -> Result<()> {
        let buffer = |slot: Slot| &self.buffers[slot as usize];
        let pieces = [
            (bytemuck::bytes_of(&body), buffer(Slot::Step), 0),
            (bytemuck::bytes_of(&head), buffer(Slot::Step), HEAD_STEP_OFFSET),
            (bytemuck::cast_slice(tokens), buffer(Slot::TokenIds), 0),
            (bytemuck::cast_slice(&self.page_entries), buffer(Slot::PageTable), 0),
        ];
        self.ring.stage(gpu, encoder, &pieces)
    }

    fn submit(&mut self, gpu: &Gpu, encoder: Encoder) -> Result<()> {
        encoder.submit(gpu);
        self.ring.submitted();
        gpu.take_fault("submit")
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
        self.readback.submit_and_read(gpu, encoder, bytes as u64, || ring.submitted(), read)
    }

    /// Enlarges the pool, to less than `target` where the device's limits or
    /// its memory demand it, and records the passes against the new buffers.
    fn grow(&mut self, gpu: &Gpu, model: &Model, target: usize, wanted: usize) -> Result<()> {
        let least = self.pool.n_pages() - self.pool.n_free() + wanted;
        if self.pool.grow(gpu, target).is_err() {
            self.pool.grow(gpu, least)?;
        }
        self.record(gpu, model, &mut |_| std::ops::ControlFlow::Continue(()))
    }
}

fn work(step: Step) -> Work {
    Work { n_rows: step.n_rows, kv_len: step.kv_len }
}

/// The error for logits that no token can be chosen from.
fn bad_logits(position: usize) -> Error {
    Error::input(format!(
        "the logits behind position {position} hold NaN or infinity: the model's values overflow f16; \
         try --kv-dtype f32 and --dtype f32"
    ))
}
