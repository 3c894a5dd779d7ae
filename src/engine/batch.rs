//! Decode steps over many sessions.

use std::sync::Arc;

use super::bound::{Entered, enter_with};
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::model::{Output, Sequence};

/// The logits of one [`Engine::step`], a row a session. It keeps its memory from
/// step to step.
#[derive(Clone, Debug, Default)]
pub struct BatchLogits {
    /// `[n_sessions, vocab_size]`
    values: Vec<f32>,
    vocab_size: usize,
}

impl BatchLogits {
    /// Without a row.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows: of sessions in the last step, 0 when it failed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The logits of each session, `[vocab_size]`, in the order of the step.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size.max(1))
    }

    /// The logits of the session at `index`, `[vocab_size]`; `None` beyond the last.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.rows().nth(index)
    }
}

/// What a step brings back; rows are appended.
enum Wanted<'a> {
    Logits(&'a mut Vec<f32>),
    Tokens(&'a mut Vec<u32>),
}

impl Wanted<'_> {
    fn output(&mut self) -> Output<'_> {
        match self {
            Wanted::Logits(rows) => Output::Rows(rows),
            Wanted::Tokens(tokens) => Output::ArgmaxRows(tokens),
        }
    }
}

impl Engine {
    /// Sessions that one submit serves, the weights read once for every eight (every
    /// four on CPU adapters); a step of more takes several submits. At most 16,
    /// fewer where the vocabulary or the prefill chunk leave no room for that many
    /// rows.
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.shared.bound().dims.batch
    }

    /// Adds one token to each session, all in one decode step, so that the weights
    /// are read once for every eight sessions (four on CPU adapters): `tokens[i]` to
    /// `sessions[i]`. `logits` then holds a row a session.
    ///
    /// With [`crate::model::ModelOptions::deterministic`] each session runs by
    /// itself, through the kernels that [`Session::advance`] takes, and the logits
    /// are the same bits; otherwise they may differ from those in the last digits.
    ///
    /// Once every size of batch has run, a step creates nothing on the device and
    /// leaves nothing on the heap.
    ///
    /// # Errors
    /// [`Error::Input`] for another number of tokens than of sessions, a session of
    /// another engine, a token outside the vocabulary, a full context;
    /// [`Error::Limits`], [`Error::Gpu`] from the device; [`Error::Cancelled`] by
    /// the flag of any of the sessions, [`Error::Timeout`] by the deadline of one. All
    /// sessions are then as they were.
    pub fn step(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
        logits: &mut BatchLogits,
    ) -> Result<()> {
        logits.vocab_size = self.vocab_size();
        logits.values.clear();
        let result = self.step_into(sessions, tokens, Wanted::Logits(&mut logits.values));
        if result.is_err() {
            logits.values.clear();
        }
        result
    }

    /// As [`Engine::step`], but brings back the most probable next token of each
    /// session (the lowest id of equals), computed on the GPU.
    ///
    /// # Errors
    /// As [`Engine::step`], `next` is then empty; [`Error::Input`] for logits that
    /// are NaN or infinite.
    pub fn step_greedy(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
        next: &mut Vec<u32>,
    ) -> Result<()> {
        next.clear();
        let result = self.step_into(sessions, tokens, Wanted::Tokens(next));
        if result.is_err() {
            next.clear();
        }
        result
    }

    fn step_into(&self, sessions: &mut [&mut Session], tokens: &[u32], mut wanted: Wanted<'_>) -> Result<()> {
        self.check_step(sessions, tokens)?;
        let per_pass = if self.options().deterministic { 1 } else { self.batch_size() };
        let mut passes = sessions.chunks_mut(per_pass).zip(tokens.chunks(per_pass));
        let result = passes.try_for_each(|(some, tokens)| self.step_pass(some, tokens, wanted.output()));
        match result {
            Ok(()) => {
                sessions.iter_mut().zip(tokens).for_each(|(session, &token)| session.tokens.push(token));
            }
            // Pages that were taken for tokens that did not arrive.
            Err(_) => {
                let mut forward = self.shared.lock();
                for session in sessions {
                    session.pages.truncate(forward.cache(), session.tokens.len());
                }
            }
        }
        result
    }

    fn check_step(&self, sessions: &[&mut Session], tokens: &[u32]) -> Result<()> {
        if sessions.len() != tokens.len() {
            return Err(Error::input(format!(
                "a step takes one token for each session: {} tokens for {} sessions",
                tokens.len(),
                sessions.len()
            )));
        }
        for (i, (session, token)) in sessions.iter().zip(tokens).enumerate() {
            if !Arc::ptr_eq(&session.shared, &self.shared) {
                return Err(Error::input(format!(
                    "session {i} of the step belongs to another engine: step it with its own"
                )));
            }
            session
                .check(std::slice::from_ref(token))
                .map_err(|error| Error::input(format!("session {i} of the step: {error}")))?;
        }
        Ok(())
    }

    /// One pass over the weights: the sessions' keys and values enter the cache,
    /// their lists of tokens stay as they are.
    fn step_pass(&self, sessions: &mut [&mut Session], tokens: &[u32], output: Output<'_>) -> Result<()> {
        sessions.iter().try_for_each(|session| session.check_cancel())?;
        let Entered { mut forward, bound } = enter_with(&self.shared, sessions)?;
        let (gpu, model) = (&bound.gpu, &bound.model);
        match sessions {
            [session] if model.options.deterministic => {
                let position = session.tokens.len();
                forward.run(gpu, model, &mut session.pages, tokens, position, output)
            }
            _ => {
                let mut sequences: Vec<Sequence<'_>> = sessions
                    .iter_mut()
                    .zip(tokens.chunks(1))
                    .map(|(session, tokens)| Sequence {
                        position: session.tokens.len(),
                        pages: &mut session.pages,
                        tokens,
                    })
                    .collect();
                forward.run_batch(gpu, model, &mut sequences, output)
            }
        }
    }
}
