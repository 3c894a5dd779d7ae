//! Passes that read back scores of tokens instead of logits.

use super::{Forward, Sequence, work};
use crate::error::Result;
use crate::gpu::{Encoder, Gpu};
use crate::kernels::Step;
use crate::kernels::score::TokenScore;
use crate::model::Model;
use crate::model::dims::{HEAD_STEP_OFFSET, Slot};
use crate::model::frame_budget::Pieces;
use crate::model::output::{Scores, bad_logits};

/// Rows of one sequence. The first of them are scored.
pub struct ScoredSequence<'a> {
    /// The sequence and its next tokens, one per row.
    pub sequence: Sequence<'a>,
    /// The target tokens of the first rows. The remaining rows only enter the cache.
    pub targets: &'a [u32],
}

impl Forward {
    /// Runs rows of sequences through the prefill kernels and scores their targets. It
    /// accepts at most [`super::Dims::chunk`] rows of one sequence, or
    /// [`super::Dims::packed`] rows of several sequences whose pages fit
    /// [`super::Dims::page_table_entries`]. Scores are in the order of the sequences.
    ///
    /// # Errors
    /// As [`Forward::run`]; [`crate::Error::Input`] for logits that are NaN or infinite.
    /// The sequences' pages may then hold more than their positions.
    ///
    /// # Panics
    /// As [`Forward::run`]; for more rows or pages than fit.
    pub fn score(
        &mut self,
        model: &Model,
        sequences: &mut [ScoredSequence<'_>],
        scores: Scores<'_>,
    ) -> Result<()> {
        self.ensure_free_pages(model, self.pages_wanted(sequences.iter().map(|one| &one.sequence)))?;
        let (tokens, targets) = self.enter_scored(&model.gpu, sequences)?;
        let single_position = match &sequences[..] {
            [one] => Some(one.sequence.position),
            _ => None,
        };
        let most = if single_position.is_some() { self.dims.chunk } else { self.dims.packed };
        assert!(!tokens.is_empty() && tokens.len() <= most, "rows out of range");
        assert!(self.page_entries[0].len() <= self.dims.page_table_entries(), "pages out of range");
        self.record_score(model, single_position.is_none())?;

        let body = Step { position: single_position.unwrap_or(0) as u32, ..self.step_of_rows() };
        if single_position.is_some() {
            // A chunk may have more rows than a batch. It needs no list, because its rows
            // are consecutive.
            self.rows.clear();
        }
        let at_once = self.dims.score_rows_max();
        let heads: Vec<Step> = (0..targets.len())
            .step_by(at_once)
            .map(|first| {
                let n_rows = at_once.min(targets.len() - first) as u32;
                Step { n_rows, first_row: first as u32, ..body }
            })
            .collect();
        let mut encoder = model.gpu.encoder()?;
        let later = bytemuck::cast_slice(&heads);
        let staged = self.stage(&model.gpu, &mut encoder, &tokens, &targets, [body, body], later)?;
        let recorded = &self.recordings;
        let layers = if single_position.is_some() { &recorded.prefill } else { &recorded.packed };
        let mut pieces = Pieces::new(&model.gpu, encoder, model.options.max_submit);
        pieces.run(&mut self.cost, &[(layers, work(body))])?;
        let step_bytes = size_of::<Step>() as u64;
        for (i, head) in heads.iter().enumerate() {
            let (offset, step) = (staged + i as u64 * step_bytes, &self.buffers[Slot::Step as usize]);
            self.ring.copy_staged(pieces.encoder(), offset, step, HEAD_STEP_OFFSET, step_bytes);
            let segments = [&recorded.head_rows[..], &recorded.score].map(|list| (list, work(*head)));
            pieces.run(&mut self.cost, &segments)?;
        }
        self.read_scores(&model.gpu, pieces.finish(), targets.len(), scores)
    }

    /// Enters the sequences. Returns tokens and targets in the order of rows. The scored
    /// rows of all sequences come first, so that the head works on consecutive rows. The
    /// other rows follow.
    fn enter_scored(
        &mut self,
        gpu: &Gpu,
        sequences: &mut [ScoredSequence<'_>],
    ) -> Result<(Vec<u32>, Vec<u32>)> {
        let (mut tokens, mut targets) = (Vec::new(), Vec::new());
        let mut first_pages = Vec::with_capacity(sequences.len());
        self.clear_rows();
        for ScoredSequence { sequence, targets: own } in sequences.iter_mut() {
            let Sequence { pages, position, tokens: all } = sequence;
            let first_page = self.enter(gpu, pages, *position, all.len())?;
            self.add_rows(*position, own.len(), first_page);
            tokens.extend_from_slice(&all[..own.len()]);
            targets.extend_from_slice(own);
            first_pages.push(first_page);
        }
        for (ScoredSequence { sequence, targets: own }, first_page) in sequences.iter().zip(first_pages) {
            let rest = &sequence.tokens[own.len()..];
            self.add_rows(sequence.position + own.len(), rest.len(), first_page);
            tokens.extend_from_slice(rest);
        }
        Ok((tokens, targets))
    }

    /// Records the passes that scoring needs, unless they are recorded already.
    fn record_score(&mut self, model: &Model, packed: bool) -> Result<()> {
        if self.recordings.score.is_empty() {
            self.recordings.score = self.recording(model).score()?;
        }
        if packed && self.recordings.packed.is_empty() {
            self.recordings.packed = self.recording(model).packed()?;
        }
        Ok(())
    }

    /// Submits a pass and reads the scores of its first `n` rows.
    fn read_scores(&mut self, gpu: &Gpu, encoder: Encoder, n: usize, scores: Scores<'_>) -> Result<()> {
        if n == 0 {
            return self.finish(gpu, encoder);
        }
        let faulty = match scores {
            Scores::Logprobs(all) => self.read(gpu, encoder, Slot::Logprobs, n * 4, |bytes| {
                let new: &[f32] = bytemuck::cast_slice(bytes);
                all.extend_from_slice(new);
                new.iter().any(|logprob| logprob.is_nan())
            }),
            Scores::Details(all) => {
                let bytes = n * size_of::<TokenScore>();
                self.read(gpu, encoder, Slot::ScoreDetails, bytes, |bytes| {
                    let new: &[TokenScore] = bytemuck::cast_slice(bytes);
                    all.extend_from_slice(new);
                    new.iter().any(|score| score.logprob.is_nan())
                })
            }
        }?;
        if faulty { Err(bad_logits()) } else { Ok(()) }
    }
}
