//! The passes of a model, recorded once against its buffers.

use super::Model;
use super::dims::{Dims, Slot};
use super::graph::{Graph, Phase};
use super::kv_cache::KvCache;
use super::progress::{LoadPhase, ProgressFn, report};
use crate::error::Result;
use crate::gpu::{Dispatch, GpuBuffer, Params};
use crate::kernels::{Choices, argmax, contract, gemv};

/// The recorded passes. Each is for any number of rows, or for batches up to some size.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    /// The body for a chunk of one sequence.
    pub(super) prefill: Vec<Dispatch>,
    /// Final norm and logits for the rows of a chunk.
    pub(super) head_rows: Vec<Dispatch>,
    /// Indexed as [`gemv::BATCHES`]; recorded on first use.
    batches: [Option<BatchPass>; gemv::BATCHES.len()],
    /// The most probable token after each row of logits.
    pub(super) argmax: Vec<Dispatch>,
    /// The score of each row of logits; empty until first used.
    pub(super) score: Vec<Dispatch>,
    /// As `prefill`, for rows of several sequences; empty until first used.
    pub(super) packed: Vec<Dispatch>,
}

/// The decode step of a batch.
#[derive(Debug)]
pub(super) struct BatchPass {
    /// From the tokens to the residual stream.
    pub(super) body: Vec<Dispatch>,
    /// Final norm and logits.
    pub(super) head: Vec<Dispatch>,
}

/// The inputs of recording.
pub(super) struct Recording<'a> {
    pub(super) model: &'a Model,
    /// The kernel candidate of each operation.
    pub(super) choices: &'a Choices,
    pub(super) dims: &'a Dims,
    pub(super) buffers: &'a [GpuBuffer],
    pub(super) cache: &'a KvCache,
    pub(super) params: &'a mut Params,
    /// As [`Graph::head_rows`].
    pub(super) head_rows: Option<usize>,
}

impl<'a> Recording<'a> {
    /// Records every pass for a single sequence.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`]; [`crate::Error::Cancelled`].
    pub(super) fn all(mut self, progress: &mut ProgressFn<'_>) -> Result<Recordings> {
        let layers = self.model.config.n_layer as u64;
        let total = 2 * layers + 2;
        let mut tick = |done: u64| report(progress, LoadPhase::Compile, done, total);
        let prefill = self.body(Phase::Prefill, &mut tick)?;
        let body = self.body(Phase::Decode { batch: 1 }, &mut |done| tick(layers + done))?;
        let [head_rows, head] = self.heads()?;
        tick(2 * layers + 1)?;
        let vocab = self.model.config.vocab();
        let slot = |slot: Slot| &self.buffers[slot as usize];
        let mut recorder = contract::recorder(&self.model.gpu, self.params);
        let (logits, result) = (slot(Slot::Logits), slot(Slot::Argmax));
        argmax::record(&mut recorder, vocab.len(), vocab.padded_len(), logits, result)?;
        let argmax = recorder.finish();
        tick(total)?;
        let mut recordings = Recordings { prefill, head_rows, argmax, ..Recordings::default() };
        recordings.batches[0] = Some(BatchPass { body, head });
        Ok(recordings)
    }

    fn graph(&self) -> Graph<'a> {
        let Model { config, options, .. } = self.model;
        let Recording { choices, buffers, cache, dims, head_rows, .. } = *self;
        Graph { config, options, choices, buffers, cache, dims, head_rows }
    }

    /// Records the pass of a batch of `n_rows`.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub(super) fn batch(mut self, n_rows: usize) -> Result<BatchPass> {
        let phase = Phase::Decode { batch: gemv::batch_for(n_rows) };
        Ok(BatchPass { body: self.body(phase, &mut |_| Ok(()))?, head: self.head(phase)? })
    }

    /// Records the body of a packed pass.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub(super) fn packed(mut self) -> Result<Vec<Dispatch>> {
        self.body(Phase::Packed, &mut |_| Ok(()))
    }

    /// Records the scores of rows of logits.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub(super) fn score(&mut self) -> Result<Vec<Dispatch>> {
        let graph = self.graph();
        let mut recorder = contract::recorder(&self.model.gpu, self.params);
        graph.score(&mut recorder)?;
        Ok(recorder.finish())
    }

    /// Records the body of a pass; `tick` receives the number of layers done.
    fn body(&mut self, phase: Phase, tick: &mut dyn FnMut(u64) -> Result<()>) -> Result<Vec<Dispatch>> {
        let (graph, weights) = (self.graph(), &self.model.weights);
        let mut recorder = contract::recorder(&self.model.gpu, self.params);
        graph.embed(&mut recorder, phase, weights)?;
        for (layer, weights) in weights.layers.iter().enumerate() {
            graph.layer(&mut recorder, phase, layer, weights)?;
            tick(layer as u64 + 1)?;
        }
        Ok(recorder.finish())
    }

    /// Records some layers of a pass.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub(super) fn layers(&mut self, phase: Phase, layers: &[usize]) -> Result<Vec<Dispatch>> {
        let (graph, weights) = (self.graph(), &self.model.weights.layers);
        let mut recorder = contract::recorder(&self.model.gpu, self.params);
        layers.iter().try_for_each(|&layer| graph.layer(&mut recorder, phase, layer, &weights[layer]))?;
        Ok(recorder.finish())
    }

    /// Records the heads for a chunk's rows and for one decode row.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub(super) fn heads(&mut self) -> Result<[Vec<Dispatch>; 2]> {
        Ok([self.head(Phase::Prefill)?, self.head(Phase::Decode { batch: 1 })?])
    }

    /// Records the head of a pass.
    ///
    /// # Errors
    /// As [`Recorder::dispatch`].
    pub(super) fn head(&mut self, phase: Phase) -> Result<Vec<Dispatch>> {
        let (graph, weights) = (self.graph(), &self.model.weights);
        let mut recorder = contract::recorder(&self.model.gpu, self.params);
        graph.head(&mut recorder, phase, weights)?;
        Ok(recorder.finish())
    }
}

/// The rows that the head of a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadRows {
    /// None: the tokens only enter the cache.
    None,
    /// The last row.
    Last,
    /// Every row.
    Every,
}

impl Recordings {
    /// Returns the dispatches for a chunk of one sequence: body and head.
    pub(super) fn chunk(&self, n_rows: usize, head: HeadRows, deterministic: bool) -> [&[Dispatch]; 2] {
        let (one, decode) = (self.batch(1), n_rows == 1 && !deterministic);
        let body: &[Dispatch] = if decode { &one.body } else { &self.prefill };
        let head: &[Dispatch] = match head {
            HeadRows::None => &[],
            HeadRows::Every if !decode => &self.head_rows,
            HeadRows::Last if deterministic => &self.head_rows,
            HeadRows::Every | HeadRows::Last => &one.head,
        };
        [body, head]
    }

    /// Replaces the heads with those of [`Recording::heads`].
    pub(super) fn set_heads(&mut self, [rows, one]: [Vec<Dispatch>; 2]) {
        self.head_rows = rows;
        if let Some(pass) = &mut self.batches[0] {
            pass.head = one;
        }
    }

    /// Returns the pass of a batch of `n_rows`.
    ///
    /// # Panics
    /// If it is not recorded.
    pub(super) fn batch(&self, n_rows: usize) -> &BatchPass {
        self.batches[index(n_rows)].as_ref().expect("the batch is recorded before it runs")
    }

    /// Returns whether the pass of a batch of `n_rows` is recorded.
    pub(super) fn has_batch(&self, n_rows: usize) -> bool {
        self.batches[index(n_rows)].is_some()
    }

    /// Stores the pass of a batch of `n_rows`.
    pub(super) fn add_batch(&mut self, n_rows: usize, pass: BatchPass) {
        self.batches[index(n_rows)] = Some(pass);
    }
}

/// Returns the index in [`gemv::BATCHES`] of the smallest batch that holds `n_rows`.
fn index(n_rows: usize) -> usize {
    let batch = gemv::batch_for(n_rows);
    gemv::BATCHES.iter().position(|&other| other == batch).expect("batch_for gives one of them")
}
