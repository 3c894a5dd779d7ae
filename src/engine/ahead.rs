//! Tokens of a generation whose steps are encoded ahead, sampled on the GPU.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::kernels::sample::{STOP_IDS_MAX, SampleParams};
use crate::model::{AheadLoop, AheadToken, Forward, bad_logits, kv_overflow};
use crate::sampling::Sampler;

/// A source of tokens that keeps submits on their way while it hands out those of
/// earlier ones.
pub(super) struct AheadSource {
    ahead: AheadLoop,
    /// Choices that were read and not handed out.
    ready: VecDeque<AheadToken>,
    /// Positions whose keys and values are computed or on their way; 0 before the
    /// first submit.
    submitted: usize,
    /// Tokens that may still be chosen.
    remaining: usize,
    steps: usize,
}

impl AheadSource {
    /// A source for a generation, where its engine encodes steps ahead and the
    /// sampler's options are among those that the GPU knows; `None` otherwise.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] from the device.
    pub(super) fn new(
        engine: &Engine,
        sampler: &Sampler,
        stop_ids: &[u32],
        remaining: usize,
    ) -> Result<Option<Self>> {
        let shared = &engine.shared;
        let params = sampler.params();
        if shared.dims.steps_ahead == 0 || !params.gpu_sampler() || stop_ids.len() > STOP_IDS_MAX {
            return Ok(None);
        }
        let sampling =
            SampleParams::new(params.temperature, params.top_k, params.top_p, params.min_p, stop_ids)?;
        let generator = sampler.generator();
        let ahead = shared.lock().ahead_loop(&shared.gpu, sampling, generator.key, generator.draws)?;
        Ok(Some(AheadSource {
            ahead,
            ready: VecDeque::new(),
            submitted: 0,
            remaining,
            steps: shared.dims.steps_ahead,
        }))
    }

    /// Forgets what is on its way: the session was rewound.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] from the device.
    pub(super) fn restart(&mut self, session: &Session) -> Result<()> {
        while self.ahead.n_flights() > 0 {
            self.ahead.read(&session.shared.gpu, &mut self.ready)?;
        }
        self.remaining += self.ready.len();
        self.ready.clear();
        self.submitted = 0;
        Ok(())
    }

    /// The token behind `pending`, the tokens that the session has not seen: the
    /// prompt, then the token of the last call.
    ///
    /// # Errors
    /// As [`Session::advance`]; [`crate::Error::Input`] for faulty logits.
    pub(super) fn next(&mut self, session: &mut Session, pending: &[u32]) -> Result<u32> {
        if self.submitted == 0 {
            let last = session.advance_but_last_chunk(pending)?;
            let shared = Arc::clone(&session.shared);
            self.submit(&mut shared.lock(), session, Some(last), 1)?;
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
            Some(AheadToken::Overflow(found)) => Err(kv_overflow(found)),
            Some(AheadToken::Fault | AheadToken::Stopped) | None => Err(bad_logits()),
        }
    }

    /// Submits what there is room for, then waits for the oldest submit.
    fn refill(&mut self, session: &mut Session) -> Result<()> {
        let most = self.remaining.min(session.shared.dims.n_ctx.saturating_sub(self.submitted));
        let n_steps = most.min(self.steps);
        if n_steps > 0 {
            let submitted = match self.submit_behind(session, n_steps) {
                // Running ahead wants more pages than the next token does.
                Err(Error::Limits(_)) if n_steps > 1 => self.submit_behind(session, 1),
                result => result,
            };
            match submitted {
                // What is on its way is not lost.
                Err(Error::Limits(_)) if self.ahead.n_flights() > 0 => {}
                result => result?,
            }
        }
        self.ahead.read(&session.shared.gpu, &mut self.ready)
    }

    /// Submits steps behind those on their way, where there is room. Behind another
    /// session's step the next submit needs the last token here, so that all that is
    /// on its way must be read first.
    fn submit_behind(&mut self, session: &mut Session, n_steps: usize) -> Result<()> {
        let shared = Arc::clone(&session.shared);
        let mut forward = shared.lock();
        let follows = forward.follows(&self.ahead) && self.ahead.has_room();
        if follows || self.ahead.n_flights() == 0 {
            self.submit(&mut forward, session, None, n_steps)?;
        }
        Ok(())
    }

    fn submit(
        &mut self,
        forward: &mut Forward,
        session: &mut Session,
        tokens: Option<&[u32]>,
        n_steps: usize,
    ) -> Result<()> {
        let position = if tokens.is_some() { session.tokens.len() } else { self.submitted };
        let Session { shared, pages, tokens: seen, .. } = session;
        let (gpu, model) = (&shared.gpu, &shared.model);
        let result = forward.submit_ahead(gpu, model, &mut self.ahead, pages, tokens, position, n_steps);
        if result.is_err() {
            pages.truncate(forward.pool(), seen.len().max(self.submitted));
        } else {
            self.submitted = position + tokens.map_or(1, <[u32]>::len) + n_steps - 1;
            self.remaining = self.remaining.saturating_sub(n_steps);
        }
        result
    }
}
