//! One sequence of tokens with cached keys and values.

use std::sync::Arc;
use std::time::Instant;

use super::bound::{Entered, Shared, enter_with};
use super::frame_budget::Feed;
use super::interrupt::{CancelFlag, Interrupt};
use super::{Engine, GenerateOptions, Generation};
use crate::error::{Error, Result};
use crate::model::{DispatchTiming, Forward, Model, Output, PageLists, Sequence};

/// A sequence of tokens whose keys and values are stored on the GPU.
///
/// The `advance` functions add tokens, and [`Session::truncate`] removes them.
/// [`Session::fork`] creates a second sequence with the same tokens without copying full
/// pages.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) tokens: Vec<u32>,
    pub(super) pages: PageLists,
    pub(super) logits: Vec<f32>,
    pub(super) feed: Feed,
    pub(super) interrupt: Interrupt,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let n_ctx = shared.n_ctx;
        Session {
            tokens: Vec::with_capacity(n_ctx),
            pages: PageLists::new(shared.files.config(), n_ctx),
            logits: Vec::with_capacity(shared.files.config().vocab_size),
            interrupt: Interrupt::default(),
            feed: Feed::default(),
            shared,
        }
    }

    /// The tokens evaluated so far.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Number of tokens so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the session has no tokens yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Sets a flag that ends a running `advance` or `score` after the chunk in progress,
    /// with [`Error::Cancelled`].
    pub fn set_cancel(&mut self, flag: CancelFlag) {
        self.interrupt.cancel = Some(flag);
    }

    /// Sets a deadline. A running or later call then ends with [`Error::Timeout`] after the
    /// chunk in progress. `None` removes the deadline.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.interrupt.deadline = deadline;
    }

    /// Adds tokens and returns the logits after the last one, `[vocab_size]`.
    ///
    /// # Errors
    /// [`Error::Input`] if `tokens` is empty, contains a token outside the vocabulary, or
    /// does not fit the context; [`Error::Limits`], [`Error::Gpu`] from the device;
    /// [`Error::Cancelled`] by the flag of [`Session::set_cancel`]; [`Error::Timeout`] by
    /// [`Session::set_deadline`]. Both are checked before each chunk. After an error the
    /// session holds the tokens of the completed chunks.
    pub fn advance(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        let last = self.advance_but_last_chunk(tokens)?;
        let mut logits = std::mem::take(&mut self.logits);
        let result = self.run(last, Output::LastLogits(&mut logits));
        self.logits = logits;
        self.feed.set_logits(result.is_ok().then_some(self.tokens.len()));
        result?;
        Ok(&self.logits)
    }

    /// Adds tokens without computing logits.
    ///
    /// # Errors
    /// As [`Session::advance`].
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<()> {
        let last = self.advance_but_last_chunk(tokens)?;
        self.run(last, Output::None)
    }

    /// Adds tokens and returns the most probable next token (the lowest id among equals),
    /// computed on the GPU.
    ///
    /// # Errors
    /// As [`Session::advance`]; [`Error::Input`] for logits that are NaN or
    /// infinite.
    pub fn advance_greedy(&mut self, tokens: &[u32]) -> Result<u32> {
        let last = self.advance_but_last_chunk(tokens)?;
        let mut token = 0;
        self.run(last, Output::Argmax(&mut token))?;
        Ok(token)
    }

    /// Adds at most [`super::Engine::batch_size`] tokens in one pass. Writes the most
    /// probable next token after each of them to `next`.
    ///
    /// # Errors
    /// As [`Session::advance_greedy`].
    pub(super) fn advance_greedy_rows(&mut self, tokens: &[u32], next: &mut Vec<u32>) -> Result<()> {
        self.check(tokens)?;
        next.clear();
        let output = Output::ArgmaxRows(next);
        self.pass(tokens, |forward, model, pages, position| {
            if model.options.deterministic {
                forward.run(model, pages, tokens, position, output)
            } else {
                forward.run_batch(model, &mut [Sequence { pages, position, tokens }], output)
            }
        })
    }

    /// Number of free positions in the context.
    pub(super) fn free_positions(&self) -> usize {
        self.shared.n_ctx - self.len()
    }

    /// Adds tokens and passes the logits after each of them to `each`, with the token's
    /// index in `tokens`.
    ///
    /// # Errors
    /// As [`Session::advance`], and the errors that `each` returns. After an error the
    /// session holds the tokens of the pieces whose rows were all passed to `each`.
    pub fn advance_each(
        &mut self,
        tokens: &[u32],
        mut each: impl FnMut(usize, &[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check(tokens)?;
        let vocab_size = self.shared.files.config().vocab_size;
        let piece_len = self.shared.logits_rows();
        let mut rows = Vec::new();
        for (i, piece) in tokens.chunks(piece_len).enumerate() {
            let start = self.len();
            rows.clear();
            self.run(piece, Output::Rows(&mut rows))?;
            // The engine is unlocked here: `each` may use it, and may panic.
            let mut numbered_rows = rows.chunks(vocab_size).enumerate();
            if let Err(error) = numbered_rows.try_for_each(|(row, logits)| each(i * piece_len + row, logits))
            {
                self.truncate(start);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Runs all chunks except the last, which it returns.
    pub(super) fn advance_but_last_chunk<'t>(&mut self, tokens: &'t [u32]) -> Result<&'t [u32]> {
        self.check(tokens)?;
        let mut rest = tokens;
        // A single token cannot be split further.
        while rest.len() > 1 {
            let rows = self.shared.chunk_rows(self.len());
            let Some((piece, after)) = rest.split_at_checked(rows).filter(|(_, after)| !after.is_empty())
            else {
                break;
            };
            self.run(piece, Output::None)?;
            rest = after;
        }
        Ok(rest)
    }

    pub(super) fn check(&self, tokens: &[u32]) -> Result<()> {
        self.check_fed()?;
        self.check_tokens(tokens, self.len())
    }

    /// Checks tokens that would follow the first `len`.
    pub(super) fn check_tokens(&self, tokens: &[u32], len: usize) -> Result<()> {
        let vocab_size = self.shared.files.config().vocab_size;
        if tokens.is_empty() {
            return Err(Error::input("there is no token to run: the prompt is empty"));
        }
        if let Some(id) = tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::input(format!(
                "token {id} is outside the vocabulary of {vocab_size} tokens (0 to {})",
                vocab_size - 1
            )));
        }
        let n_ctx = self.shared.n_ctx;
        if len + tokens.len() > n_ctx {
            return Err(Error::input(format!(
                "{} tokens after {len} exceed the context of {n_ctx} positions: shorten the text{}",
                tokens.len(),
                if len > 0 { ", or truncate the session" } else { "" }
            )));
        }
        Ok(())
    }

    /// Adds tokens and returns the time of each dispatch, in order. The dispatches are
    /// those of [`Session::advance`], including the logits of the last token. Each
    /// dispatch runs in its own pass, so the sum of the times exceeds the time of a
    /// normal step.
    ///
    /// # Errors
    /// As [`Session::advance`].
    #[cfg_attr(feature = "internals", visibility::make(pub))]
    pub(crate) fn profile(&mut self, tokens: &[u32]) -> Result<Vec<DispatchTiming>> {
        self.check(tokens)?;
        let mut timings = Vec::new();
        let pieces = tokens.chunks(self.shared.bound().dims.chunk);
        let last = pieces.len() - 1;
        for (i, piece) in pieces.enumerate() {
            self.pass(piece, |forward, model, pages, position| {
                forward.profile(model, pages, piece, position, i == last, &mut timings)
            })?;
        }
        Ok(timings)
    }

    fn run(&mut self, tokens: &[u32], output: Output<'_>) -> Result<()> {
        self.pass(tokens, |forward, model, pages, position| {
            forward.run(model, pages, tokens, position, output)
        })
    }

    pub(super) fn check_cancel(&self) -> Result<()> {
        self.interrupt.check()
    }

    /// Checks for cancellation, locks the engine, and lets `run` add `tokens` at the
    /// position passed to it. `tokens` must fit one chunk.
    fn pass(
        &mut self,
        tokens: &[u32],
        run: impl FnOnce(&mut Forward, &Model, &mut PageLists, usize) -> Result<()>,
    ) -> Result<()> {
        self.check_cancel()?;
        let shared = Arc::clone(&self.shared);
        let Entered { mut forward, bound } = enter_with(&shared, &mut [self])?;
        let position = self.tokens.len();
        let result = run(&mut forward, &bound.model, &mut self.pages, position);
        match result {
            Ok(()) => self.tokens.extend_from_slice(tokens),
            Err(_) => self.drop_unused_pages(&mut forward),
        }
        result
    }

    /// Returns a second session with the same tokens, cancel flag and deadline. Full
    /// pages stay shared. A partly filled page is shared until either session writes to
    /// it. Only this session keeps the tokens that were fed and have not run.
    #[must_use]
    pub fn fork(&self) -> Session {
        let mut twin = Session::new(Arc::clone(&self.shared));
        twin.tokens.extend_from_slice(&self.tokens);
        let mut forward = self.shared.lock();
        twin.pages = self.pages.fork(forward.cache());
        // The pages of a pass in progress stay with this session.
        twin.drop_unused_pages(&mut forward);
        drop(forward);
        twin.interrupt = Interrupt { abandoned: None, ..self.interrupt.clone() };
        twin
    }

    /// Generates text after the session's tokens and `prompt`, which may be empty.
    /// [`Generation::into_session`] returns the session.
    ///
    /// # Errors
    /// As [`Engine::generate_tokens`].
    pub fn generate(self, prompt: &[u32], options: GenerateOptions) -> Result<Generation> {
        let engine = Engine { shared: Arc::clone(&self.shared) };
        Generation::new(&engine, self, prompt, options)
    }

    /// Removes the tokens after the first `len` and frees their pages. Also drops all
    /// tokens that were fed and have not run.
    pub fn truncate(&mut self, len: usize) {
        if self.feed.is_pending() {
            self.forget_fed();
        }
        if len < self.tokens.len() {
            self.feed.set_logits(None);
            self.rewind(len);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.feed.is_pending() {
            self.forget_fed();
        }
        let Entered { mut forward, bound } = self.shared.enter();
        self.pages.truncate(forward.cache(), 0);
        // If nothing else holds the model, all of its memory is freed anyway.
        if Arc::strong_count(&self.shared) > 1 {
            forward.shrink(&bound.model);
        }
    }
}
