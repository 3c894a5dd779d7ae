//! Decode steps over many sessions.

use std::sync::Arc;

use super::bound::{Entered, enter_with};
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::model::{Output, Sequence};

/// The logits of one [`Engine::step`], one row per session. Later steps reuse its memory.
#[derive(Clone, Debug, Default)]
pub struct BatchLogits {
    /// `[n_sessions, vocab_size]`
    values: Vec<f32>,
    vocab_size: usize,
}

impl BatchLogits {
    /// Returns an empty value, without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows: the number of sessions in the last step, 0 if it failed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows().len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The logits of each session, `[vocab_size]`, in the order of the step's sessions.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size.max(1))
    }

    /// The logits of the session at `index`, `[vocab_size]`; `None` if `index` is out of
    /// range.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<&[f32]> {
        self.rows().nth(index)
    }
}

/// The results that a step returns; rows are appended.
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
    /// Number of sessions in one submit. A step over more sessions takes several submits.
    /// The number is at most 16, and less if the vocabulary or the prefill chunk limits
    /// the rows. The weights are read once per eight sessions (per four on CPU adapters).
    #[must_use]
    pub fn batch_size(&self) -> usize {
        self.shared.bound().dims.batch
    }

    /// Adds one token to each session, `tokens[i]` to `sessions[i]`, all in one decode
    /// step. The weights are read once per eight sessions (per four on CPU adapters).
    /// `logits` then holds one row per session.
    ///
    /// With [`crate::model::ModelOptions::deterministic`] each session runs separately,
    /// with the kernels of [`Session::advance`], and the logits have the same bits.
    /// Without it, the logits may differ in the last digits.
    ///
    /// After every batch size has run once, a step creates no device objects and retains
    /// no new heap memory.
    ///
    /// # Errors
    /// [`Error::Input`] if the numbers of tokens and sessions differ, if a session
    /// belongs to another engine, if a token is outside the vocabulary, or if a context
    /// is full; [`Error::Limits`], [`Error::Gpu`] from the device; [`Error::Cancelled`]
    /// if the flag of any session is raised; [`Error::Timeout`] if the deadline of any
    /// session has passed. After an error, all sessions are unchanged.
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

    /// Like [`Engine::step`], but returns the most probable next token of each session (the
    /// lowest id among equals), computed on the GPU.
    ///
    /// As [`Engine::step`]; [`Error::Input`] for logits that are NaN or infinite. After
    /// an error `next` is empty.
    /// NaN or infinite.
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
            Err(_) => {
                let mut forward = self.shared.lock();
                for session in sessions {
                    session.drop_unused_pages(&mut forward);
                }
            }
        }
        result
    }

    fn check_step(&self, sessions: &[&mut Session], tokens: &[u32]) -> Result<()> {
        if sessions.len() != tokens.len() {
            return Err(Error::input(format!(
                "a step takes one token for each session, but there are {} tokens for {} sessions",
                tokens.len(),
                sessions.len()
            )));
        }
        for (i, (session, token)) in sessions.iter().zip(tokens).enumerate() {
            if !Arc::ptr_eq(&session.shared, &self.shared) {
                return Err(Error::input(format!(
                    "session {i} of the step belongs to another engine: step it with the engine that created \
                     it"
                )));
            }
            session
                .check(std::slice::from_ref(token))
                .map_err(|error| Error::input(format!("session {i} of the step: {error}")))?;
        }
        Ok(())
    }

    /// Runs one pass over the weights. It writes the sessions' keys and values to the cache
    /// and leaves their token lists unchanged.
    fn step_pass(&self, sessions: &mut [&mut Session], tokens: &[u32], output: Output<'_>) -> Result<()> {
        sessions.iter().try_for_each(|session| session.check_cancel())?;
        let Entered { mut forward, bound } = enter_with(&self.shared, sessions)?;
        let model = &bound.model;
        match sessions {
            [session] if model.options.deterministic => {
                let position = session.tokens.len();
                forward.run(model, &mut session.pages, tokens, position, output)
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
                forward.run_batch(model, &mut sequences, output)
            }
        }
    }
}
