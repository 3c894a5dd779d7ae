//! One step of a generation. It returns a piece of text, or ends when the frame budget is
//! used up.

use std::time::{Duration, Instant};

use super::{FinishReason, Generation, Piece};
use crate::engine::frame_budget::{Budget, StepReport};
use crate::engine::source::TokenSource;
use crate::error::{Error, Result};
use crate::sampling::{TokenLogprobs, token_logprobs};

/// The result of [`Generation::step`].
#[derive(Clone, Debug, PartialEq)]
pub enum GenerationStep {
    /// The next token is not chosen yet.
    Working(StepReport),
    /// A token was chosen, or held-back text was returned.
    Piece(Piece),
    /// The text has ended.
    Ended,
}

impl Generation {
    /// Works on the next piece until the budget is used up. [`crate::Session::step`] runs
    /// the pending tokens, then the CPU samples a token.
    ///
    /// The pieces equal those of the iterator, and the iterator may continue after any
    /// step. Prompt lookup and steps ahead do not work within a budget, so from the first
    /// step on each token takes its own pass. Tokens that were computed in advance but
    /// not returned are computed again from the same random numbers.
    ///
    /// # Errors
    /// As the iterator. The text then ends, unless [`Generation::resume`] is called.
    pub fn step(&mut self, budget: Budget) -> Result<GenerationStep> {
        if self.ended {
            return Ok(GenerationStep::Ended);
        }
        let step = self.step_within(budget);
        self.ended |= step.is_err();
        step
    }

    fn step_within(&mut self, budget: Budget) -> Result<GenerationStep> {
        self.report = StepReport::default();
        let piece = |piece: Option<Piece>| piece.map_or(GenerationStep::Ended, GenerationStep::Piece);
        if matches!(&self.source, TokenSource::Lookup(lookup) if lookup.is_ready()) {
            return self.next_piece().map(piece);
        }
        self.source.make_plain(&self.session, &mut self.sampler)?;
        if self.session.remaining() == 0 {
            if self.has_ended()? {
                return self.flush().map(piece);
            }
            self.session.feed(&self.pending)?;
        }
        let end = self.session.len() + self.session.remaining();
        match self.session.step(budget) {
            Ok(report) => self.report = report,
            Err(error @ (Error::Cancelled | Error::Timeout)) => {
                self.interrupted(error)?;
                return self.flush().map(piece);
            }
            Err(error) => {
                // Tokens that have run need not run again.
                let left = end - self.session.len();
                self.pending.drain(..self.pending.len() - left);
                return Err(error);
            }
        }
        if !self.report.done {
            return Ok(GenerationStep::Working(self.report.clone()));
        }
        let (token, logprobs) = self.sample()?;
        self.pending.clear();
        self.prompt_done.get_or_insert_with(Instant::now);
        self.accept(token, logprobs).map(piece)
    }

    /// Samples a token from the logits of the session's last token.
    fn sample(&mut self) -> Result<(u32, Option<TokenLogprobs>)> {
        let logits = self
            .session
            .logits()
            .ok_or_else(|| Error::input("the session has no logits to sample from: run a token first"))?;
        let token = self.sampler.sample(logits, &self.history)?;
        let logprobs = self.options.logprobs.map(|n| token_logprobs(logits, token, n)).transpose()?;
        Ok((token, logprobs))
    }

    /// Whether the text ends before the next token is chosen.
    fn has_ended(&mut self) -> Result<bool> {
        if let Err(error) = self.session.check_cancel() {
            self.interrupted(error)?;
        } else if self.remaining() == 0 || !self.free_context()? {
            self.end(FinishReason::Length);
        }
        Ok(self.finish.is_some())
    }

    /// Ends the text on cancellation or timeout; returns other errors.
    fn interrupted(&mut self, error: Error) -> Result<()> {
        self.end(match error {
            Error::Cancelled => FinishReason::Cancelled,
            Error::Timeout => FinishReason::Timeout,
            other => return Err(other),
        });
        Ok(())
    }

    fn next_piece(&mut self) -> Result<Option<Piece>> {
        while self.session.remaining() > 0 {
            // An earlier step stopped in the middle of a pass.
            match self.step_within(Budget::new(Duration::MAX))? {
                GenerationStep::Working(_) => {}
                GenerationStep::Piece(piece) => return Ok(Some(piece)),
                GenerationStep::Ended => return Ok(None),
            }
        }
        let remaining = self.remaining();
        self.source.follow(&self.session, &mut self.sampler, &self.eos, remaining)?;
        if self.has_ended()? {
            return self.flush();
        }
        let (token, logprobs) = match self.choose() {
            Err(error) => {
                self.interrupted(error)?;
                return self.flush();
            }
            Ok(chosen) => chosen,
        };
        self.accept(token, logprobs)
    }

    /// Adds a chosen token to the text.
    fn accept(&mut self, token: u32, logprobs: Option<TokenLogprobs>) -> Result<Option<Piece>> {
        if self.eos.contains(&token) {
            self.end(FinishReason::Eos);
            return self.flush();
        }
        self.history.push(token);
        self.pending.push(token);
        let mut text = String::new();
        if let Some(decoder) = &mut self.decoder {
            let (certain, stop) = self.stops.push(&decoder.push(token)?);
            text = certain;
            if stop.is_some() {
                self.end(FinishReason::StopString);
                self.ended = true;
            }
        }
        Ok(Some(Piece { token: Some(token), text, logprobs }))
    }

    /// Returns the held-back text, once.
    fn flush(&mut self) -> Result<Option<Piece>> {
        self.ended = true;
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        let (mut text, stop) = self.stops.push(&decoder.finish()?);
        if stop.is_none() {
            text.push_str(&self.stops.finish());
        }
        Ok((!text.is_empty()).then_some(Piece { token: None, text, logprobs: None }))
    }
}

impl Iterator for Generation {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.next_piece();
        if step.is_err() {
            self.ended = true;
        }
        step.transpose()
    }
}
