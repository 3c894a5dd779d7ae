//! Work in time-limited pieces, for applications that draw frames.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Session;
use super::bound::{Entered, Shared, enter_with};
use crate::error::{Error, Result};
pub use crate::model::Overrun;
use crate::model::{PassOwner, PieceTime};

/// A submit is planned to take at most the budget divided by this number. A submit that
/// takes twice its prediction still fits the budget, and the step ends after it.
const PIECES: u32 = 2;

/// A frame budget: the time that a step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Budget(Duration);

impl Budget {
    /// Creates a budget of this duration.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Budget(duration)
    }

    /// Creates a budget of `millis` milliseconds. A budget of 4 ms leaves the application
    /// three quarters of a frame at 60 Hz.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Budget(Duration::from_millis(millis))
    }

    /// The budget's duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// Whether all tokens have run; [`Session::logits`] then has the last token's logits.
    pub done: bool,
    /// Tokens that were fed and have not run. All tokens of a chunk count until the whole
    /// chunk has run.
    pub remaining: usize,
    /// Number of submits in this step.
    pub submits: usize,
    /// Time from the call to its return.
    pub time: Duration,
    /// GPU time of the step, from timestamps. If the device has no timestamps, the time
    /// that the host waited.
    pub gpu_time: Duration,
    /// Submits that took longer than the budget, each with its prediction. The cause is
    /// either a single dispatch that cannot be divided, or a device that was busy or
    /// slower than when it was measured. Later predictions account for it.
    pub overruns: Vec<Overrun>,
}

impl StepReport {
    fn add(&mut self, piece: PieceTime) {
        self.submits += piece.submits;
        self.gpu_time += piece.duration;
        self.overruns.extend(piece.overrun);
    }
}

/// The tokens that a session has to run in steps.
#[derive(Debug)]
pub(super) struct Feed {
    owner: PassOwner,
    /// Tokens that have not run. A pass in progress starts with the first of them.
    queue: VecDeque<u32>,
    /// The token count that the session's logits belong to.
    logits_at: Option<usize>,
}

impl Default for Feed {
    fn default() -> Self {
        Feed { owner: PassOwner::unique(), queue: VecDeque::new(), logits_at: None }
    }
}

impl Feed {
    /// Whether there are tokens that were fed and have not run.
    pub(super) fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Records that the session's logits follow its first `len` tokens; `None` if it has
    /// none.
    pub(super) fn set_logits(&mut self, len: Option<usize>) {
        self.logits_at = len;
    }
}

impl Shared {
    /// Number of tokens that one pass may take after `position`. No dispatch of such a
    /// pass is predicted to exceed the time limit of a submit.
    pub(super) fn chunk_rows(&self, position: usize) -> usize {
        let Entered { forward, bound } = self.enter();
        forward.rows_within(bound.model.options.max_submit, position)
    }

    /// Like [`Shared::chunk_rows`], but for any position and for logits of every token.
    pub(super) fn logits_rows(&self) -> usize {
        self.chunk_rows(self.n_ctx).min(self.bound().dims.logits_rows)
    }
}

impl Session {
    /// Queues tokens after the session's tokens and those fed before. [`Session::step`]
    /// runs them.
    ///
    /// # Errors
    /// [`Error::Input`] if `tokens` is empty, contains a token outside the vocabulary, or
    /// does not fit the context.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<()> {
        self.check_tokens(tokens, self.len() + self.feed.queue.len())?;
        self.feed.queue.extend(tokens);
        Ok(())
    }

    /// Runs fed tokens until the budget is used up.
    ///
    /// The work is divided into submits that are predicted to fit the rest of the budget.
    /// Chunks are short enough that each of their dispatches fits. A submit may cover
    /// part of a chunk: some of its layers, or some rows of the logits' matrix. The call
    /// waits for each submit and corrects the predictions with its time. The first
    /// predictions come from measurements during loading. Each step runs at least one
    /// dispatch, so the work completes under any budget. The report lists submits that
    /// took longer than the budget. The call also waits while another thread uses the
    /// engine.
    ///
    /// The sessions of an engine share its buffers. If another session's chunk is in
    /// progress, this call finishes it first, within this session's budget. If several
    /// sessions step in turn, all of them therefore advance. Calls without a budget
    /// finish such a chunk at once.
    ///
    /// The results are those of [`Session::advance`], with the same bits under
    /// [`crate::model::ModelOptions::deterministic`]. Otherwise they may differ in the last
    /// digits, as they do with other chunk sizes.
    ///
    /// # Errors
    /// As [`Session::advance`]. Cancellation is checked between submits. After an error the
    /// session holds the tokens of the completed chunks; the other fed tokens are dropped.
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
        let model = &bound.model;
        let piece = budget / PIECES;
        loop {
            let position = self.tokens.len();
            if let Some(n_rows) = forward.take_finished(self.feed.owner, &mut self.logits)? {
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
            if !forward.has_unfinished() {
                // Steps ahead or a move to another device may have left pages.
                self.drop_unused_pages(&mut forward);
                let most = forward.rows_within(piece.min(model.options.max_submit), position);
                let (owner, all) = (self.feed.owner, &*self.feed.queue.make_contiguous());
                let (chunk, last) = (&all[..most.min(all.len())], most >= all.len());
                forward.begin_pass(model, owner, &mut self.pages, chunk, position, last)?;
            } else if report.submits > 0 && !forward.piece_fits(model, left) {
                return Ok(());
            }
            if let Some(time) = forward.run_piece(model, left.min(piece), budget) {
                report.add(time);
            }
        }
    }

    /// The logits after the last token, `[vocab_size]`, from the last
    /// [`Session::advance`] or from completed steps. `None` if another call has since
    /// added or removed tokens.
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

    /// Drops the tokens that were fed and have not run, and the pass in progress for them.
    pub(super) fn forget_fed(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut forward = shared.lock();
        forward.abandon(self.feed.owner);
        self.drop_unused_pages(&mut forward);
        self.feed.queue.clear();
    }

    /// Checks that all fed tokens have run.
    ///
    /// # Errors
    /// [`Error::Input`] if some have not.
    pub(super) fn check_fed(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            n => Err(Error::input(format!(
                "{n} tokens were fed to the session and have not run: step it until it is done, or truncate it"
            ))),
        }
    }
}
