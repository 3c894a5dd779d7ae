//! A token source whose steps are encoded ahead and sampled on the GPU.
//!
//! The first submit of a text is a single step, so the first token arrives without delay.
//! A stop id stops the state on the GPU. Tokens after a stop id or a stop string are
//! discarded, and their pages are released. Another session's step overwrites the token
//! on the GPU. The next submit then uploads the last token and the sampler's state from
//! the host.
//! submit brings both from the host.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Session;
use super::bound::{Bound, Entered, enter_with};
use crate::error::{Error, Result};
use crate::kernels::sample::{STOP_IDS_MAX, SampleParams};
use crate::model::{AheadLoop, AheadToken, bad_logits, kv_overflow};
use crate::sampling::Sampler;

/// A token source that keeps submits in flight while it returns the tokens of earlier ones.
pub(super) struct AheadSource {
    ahead: AheadLoop,
    /// The device that the loop runs on.
    bound: Arc<Bound>,
    /// Choices that were read back and not returned yet.
    ready: VecDeque<AheadToken>,
    /// Positions whose keys and values are computed or in flight; 0 before the first
    /// submit.
    submitted: usize,
    /// Number of tokens that further submits may still choose.
    remaining: usize,
    steps: usize,
    /// Whether a call failed. The results of submits in flight are then discarded.
    failed: bool,
}

impl AheadSource {
    /// Returns a source for a generation. Returns `None` if the engine does not encode
    /// steps ahead, or if the GPU sampler does not support the sampler's options.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`], [`crate::Error::Gpu`] from the device.
    pub(super) fn new(
        session: &Session,
        sampler: &Sampler,
        stop_ids: &[u32],
        remaining: usize,
    ) -> Result<Option<Self>> {
        let params = sampler.params();
        let Entered { mut forward, bound } = session.shared.enter();
        let steps = bound.dims.steps_ahead;
        if steps == 0 || !params.gpu_sampler() || stop_ids.len() > STOP_IDS_MAX {
            return Ok(None);
        }
        let sampling =
            SampleParams::new(params.temperature, params.top_k, params.top_p, params.min_p, stop_ids)?;
        let generator = sampler.generator();
        let ahead = forward.ahead_loop(&bound.model, sampling, generator.key, generator.draws)?;
        drop(forward);
        Ok(Some(AheadSource {
            ahead,
            bound,
            ready: VecDeque::new(),
            submitted: 0,
            remaining,
            steps,
            failed: false,
        }))
    }

    /// Whether a call failed or the engine has moved to another device.
    pub(super) fn must_be_replaced(&self, session: &Session) -> bool {
        self.failed || !Arc::ptr_eq(&self.bound, &session.shared.bound())
    }

    /// Number of random numbers that the returned tokens have consumed.
    pub(super) fn draws(&self) -> u64 {
        self.ahead.draws_before(self.ready.len())
    }

    /// Waits for all submits in flight and discards their tokens. The caller has rewound
    /// the session.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] from the device.
    pub(super) fn restart(&mut self) -> Result<()> {
        while self.ahead.n_flights() > 0 {
            let read = self.ahead.read(&self.bound.model, &mut self.ready);
            self.failed |= read.is_err();
            read?;
        }
        self.remaining += self.ready.len();
        self.ready.clear();
        self.submitted = 0;
        Ok(())
    }

    /// Returns the token that follows `pending`. `pending` holds the tokens that the
    /// session has not evaluated: first the prompt, then the token of the previous call.
    ///
    /// # Errors
    /// As [`Session::advance`]; [`crate::Error::Input`] for faulty logits.
    pub(super) fn next(&mut self, session: &mut Session, pending: &[u32]) -> Result<u32> {
        let token = self.try_next(session, pending);
        self.failed |= token.is_err();
        token
    }

    fn try_next(&mut self, session: &mut Session, pending: &[u32]) -> Result<u32> {
        if self.submitted == 0 {
            let last = session.advance_but_last_chunk(pending)?;
            session.check_cancel()?;
            let shared = Arc::clone(&session.shared);
            let mut entered = enter_with(&shared, &mut [session])?;
            self.submit(&mut entered, session, Some(last), 1)?;
            drop(entered);
            session.tokens.extend_from_slice(last);
        } else {
            session.check_cancel()?;
            session.tokens.extend_from_slice(pending);
        }
        if self.ready.is_empty() {
            self.refill(session)?;
        }
        match self.ready.pop_front() {
            Some(AheadToken::Token(token)) => Ok(token),
            Some(AheadToken::F16Overflow(found)) => Err(kv_overflow(found)),
            Some(AheadToken::Fault | AheadToken::Stopped) | None => Err(bad_logits()),
        }
    }

    /// Submits further steps if the limits on tokens and context allow it, then waits for
    /// the oldest submit.
    fn refill(&mut self, session: &mut Session) -> Result<()> {
        let most = self.remaining.min(session.shared.n_ctx.saturating_sub(self.submitted));
        let n_steps = most.min(self.steps);
        if n_steps > 0 {
            let submitted = match self.submit_next(session, n_steps) {
                // Running ahead needs more pages than the next token does.
                Err(Error::Limits(_) | Error::OutOfMemory { .. }) if n_steps > 1 => {
                    self.submit_next(session, 1)
                }
                result => result,
            };
            match submitted {
                // The submits in flight remain valid.
                Err(Error::Limits(_) | Error::OutOfMemory { .. }) if self.ahead.n_flights() > 0 => {}
                result => result?,
            }
        }
        self.ahead.read(&self.bound.model, &mut self.ready)
    }

    /// Submits steps after those in flight, if another submit is allowed. After another
    /// session's step, the next submit needs the last token on the host, so all submits
    /// in flight must be read first.
    fn submit_next(&mut self, session: &mut Session, n_steps: usize) -> Result<()> {
        let shared = Arc::clone(&session.shared);
        let mut entered = shared.enter();
        let follows = entered.forward.follows(&self.ahead) && self.ahead.can_submit();
        if follows || self.ahead.n_flights() == 0 {
            self.submit(&mut entered, session, None, n_steps)?;
        }
        Ok(())
    }

    fn submit(
        &mut self,
        Entered { forward, bound }: &mut Entered<'_>,
        session: &mut Session,
        tokens: Option<&[u32]>,
        n_steps: usize,
    ) -> Result<()> {
        if !Arc::ptr_eq(bound, &self.bound) {
            return Err(Error::engine_moved());
        }
        let position = if tokens.is_some() { session.tokens.len() } else { self.submitted };
        let Session { pages, tokens: seen, .. } = session;
        let result = forward.submit_ahead(&bound.model, &mut self.ahead, pages, tokens, position, n_steps);
        if result.is_err() {
            // Submits in flight hold positions beyond the session's tokens.
            pages.truncate(forward.cache(), seen.len().max(self.submitted));
        } else {
            self.submitted = position + tokens.map_or(1, <[u32]>::len) + n_steps - 1;
            self.remaining = self.remaining.saturating_sub(n_steps);
        }
        result
    }
}
