//! Work in bounded pieces, for applications that draw frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Session;
use super::bound::{Entered, Shared, enter_with};
use crate::error::{Error, Result};
pub use crate::model::Overrun;
use crate::model::{PassOwner, PieceTime};

/// Submits that a budget is planned to have room for: one that takes twice what was
/// predicted does not exceed it, and the step ends behind it.
const PIECES: u32 = 2;

/// How long a step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget(Duration);

impl Budget {
    /// That long.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Budget(duration)
    }

    /// So many milliseconds: 4 leave three quarters of a frame at 60 Hz.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Budget(Duration::from_millis(millis))
    }

    /// The time.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Whether all tokens have run: [`Session::logits`] has the last one's.
    pub done: bool,
    /// Tokens that were fed and have not run. Those of a chunk count until all of it
    /// has run.
    pub remaining: usize,
    /// Submits of this step.
    pub submits: usize,
    /// From the call to its return.
    pub time: Duration,
    /// What the GPU took for it: by its timestamps; where the device has none, the
    /// waits.
    pub gpu_time: Duration,
    /// Submits that took longer than the budget, each with its prediction: a single
    /// dispatch that cannot be divided, or a device that was busy or slower than it was
    /// when it was measured. The predictions then follow.
    pub overruns: Vec<Overrun>,
}

impl StepReport {
    fn add(&mut self, piece: PieceTime) {
        self.submits += piece.submits;
        self.gpu_time += piece.duration;
        self.overruns.extend(piece.overrun);
    }
}

/// What a session is to run in steps.
#[derive(Debug)]
pub(super) struct Feed {
    owner: PassOwner,
    /// Tokens that have not run; a pass that is under way began with the first.
    queue: VecDeque<u32>,
    /// Number of tokens behind which the session's logits are.
    logits_at: Option<usize>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { owner: PassOwner::unique(), queue: VecDeque::new(), logits_at: None }
    }
}

impl Feed {
    /// Whether tokens were fed that have not run.
    pub(super) fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The session has logits behind its first `len` tokens.
    pub(super) fn set_logits(&mut self, len: Option<usize>) {
        self.logits_at = len;
    }
}

impl Shared {
    /// Tokens that one pass takes behind `position`, so that no dispatch is predicted
    /// to take longer than a submit may.
    pub(super) fn chunk_rows(&self, position: usize) -> usize {
        let Entered { forward, bound } = self.enter();
        forward.rows_within(bound.model.options.max_submit, position)
    }

    /// As [`Shared::chunk_rows`], wherever the tokens are, with logits behind each.
    pub(super) fn logits_rows(&self) -> usize {
        self.chunk_rows(self.n_ctx).min(self.bound().dims.logits_rows)
    }
}

impl Session {
    /// Queues tokens behind those of the session and those fed before; [`Session::step`]
    /// runs them.
    ///
    /// # Errors
    /// [`Error::Input`] for no token, one outside the vocabulary, or more than the
    /// context holds.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        self.check_tokens(tokens, self.len() + self.feed.queue.len())?;
        self.feed.queue.extend(tokens);
        Ok(())
    }

    /// Runs tokens that were fed, for as long as the budget lasts, and returns.
    ///
    /// The work is divided into submits that are predicted to fit what is left of the
    /// budget: chunks of as many tokens as let each dispatch fit it, within a chunk
    /// some layers, of the logits' matrix some rows. Each submit is waited for, and its
    /// time corrects the predictions, which began with measurements made at loading. At
    /// least one dispatch runs in each step, so that any budget comes to an end; what
    /// takes longer than the budget is in the report. The call waits for another
    /// thread that uses the engine.
    ///
    /// Sessions of one engine share its buffers, so that a chunk of another session
    /// that is under way is finished first, within this session's budget: sessions
    /// that are stepped in turn all advance. Calls without a budget finish it at once.
    ///
    /// Results are those of [`Session::advance`], the same bits with
    /// [`crate::model::ModelOptions::deterministic`]; else they may differ in the last
    /// digits, as with other chunks.
    ///
    /// # Errors
    /// As [`Session::advance`]; [`Error::Cancelled`] is heeded between submits. The
    /// session then holds the tokens of the chunks that were completed, and what was
    /// fed beyond is forgotten.
    pub fn step(&mut self, budget: Budget) -> Result<StepReport> {
        let started = Instant::now();
        let mut report = StepReport::default();
        let result = self.step_within(budget.0, started, &mut report);
        if let Err(error) = result {
            self.forget_fed();
            return Err(error);
        }
        report.remaining = self.feed.queue.len();
        report.done = report.remaining == 0;
        report.time = started.elapsed();
        Ok(report)
    }

    fn step_within(&mut self, budget: Duration, started: Instant, report: &mut StepReport) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.check_cancel()?;
        let Entered { mut forward, bound } = enter_with(&shared, &mut [self])?;
        let (gpu, model) = (&bound.gpu, &bound.model);
        let piece = budget / PIECES;
        loop {
            let position = self.tokens.len();
            if let Some(n_rows) = forward.take_ended(self.feed.owner, &mut self.logits)? {
                self.tokens.extend(self.feed.queue.drain(..n_rows));
                let with_logits = self.feed.queue.is_empty();
                self.feed.set_logits(with_logits.then_some(self.tokens.len()));
                continue;
            }
            let left = budget.saturating_sub(started.elapsed());
            if self.feed.queue.is_empty() || (report.submits > 0 && left.is_zero()) {
                return Ok(());
            }
            self.check_cancel()?;
            if !forward.has_begun() {
                let most = forward.rows_within(piece.min(model.options.max_submit), position);
                let (owner, all) = (self.feed.owner, &*self.feed.queue.make_contiguous());
                let (chunk, last) = (&all[..most.min(all.len())], most >= all.len());
                // Positions that another device, or steps ahead, had pages for.
                self.pages.truncate(forward.cache(), position);
                forward.begin_pass(gpu, model, owner, &mut self.pages, chunk, position, last)?;
            } else if report.submits > 0 && !forward.piece_fits(model, left) {
                return Ok(());
            }
            if let Some(time) = forward.run_piece(gpu, model, left.min(piece), budget) {
                report.add(time);
            }
        }
    }

    /// The logits behind the last token, `[vocab_size]`: those of the last
    /// [`Session::advance`], or of steps that are done. `None` where tokens were added
    /// in another way, or taken away, since then.
    #[must_use]
    pub fn logits(&self) -> Option<&[f32]> {
        let current = self.feed.logits_at == Some(self.len()) && !self.is_empty();
        (current && !self.feed.is_pending()).then_some(&self.logits)
    }

    /// Tokens that were fed and have not run.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.feed.queue.len()
    }

    /// Forgets tokens that were fed and have not run, and the pass that runs some.
    pub(super) fn forget_fed(&mut self) {
        let mut forward = self.shared.lock();
        forward.abandon(self.feed.owner);
        self.pages.truncate(forward.cache(), self.tokens.len());
        self.feed.queue.clear();
    }

    /// # Errors
    /// [`Error::Input`] where tokens were fed that have not run.
    pub(super) fn check_fed(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(Error::input(format!(
                "{n} tokens were fed to the session and have not run: step it until it is done, or truncate it"
            ))),
        }
    }
}
