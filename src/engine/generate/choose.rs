//! Choosing the next token of a text.

use std::time::Instant;

use super::{Generation, TokenSource};
use crate::error::Result;
use crate::sampling::{TokenLogprobs, token_logprobs};

impl Generation {
    /// Allows a text that ended with an error to continue, for example when the engine
    /// has another device ([`crate::Engine::rebind`]) or memory is free again. The next
    /// piece is the one that failed. Does nothing if the text ended for another reason.
    pub fn resume(&mut self) {
        self.ended &= self.finish.is_some();
    }

    /// Number of tokens that may still be generated.
    pub(super) fn remaining(&self) -> usize {
        self.options.max_new_tokens.map_or(usize::MAX, |most| most - self.tokens().len())
    }

    /// Runs the pending tokens and chooses the next one. A failure leaves the session
    /// unchanged, so that [`Generation::resume`] can try again.
    pub(super) fn choose(&mut self) -> Result<(u32, Option<TokenLogprobs>)> {
        let before = self.session.len();
        let chosen = self.try_choose();
        if chosen.is_err() {
            self.session.rewind(before);
        }
        chosen
    }

    fn try_choose(&mut self) -> Result<(u32, Option<TokenLogprobs>)> {
        let most = self.remaining();
        let Generation { session, pending, sampler, history, .. } = self;
        let chosen = if let TokenSource::Lookup(lookup) = &mut self.source {
            (lookup.next(session, pending, history, most)?, None)
        } else if let TokenSource::Ahead(ahead) = &mut self.source {
            (ahead.next(session, pending)?, None)
        } else if sampler.is_plain_greedy() && self.options.logprobs.is_none() {
            (session.advance_greedy(pending)?, None)
        } else {
            let logits = session.advance(pending)?;
            let token = sampler.sample(logits, history)?;
            let logprobs = self.options.logprobs.map(|n| token_logprobs(logits, token, n)).transpose()?;
            (token, logprobs)
        };
        pending.clear();
        self.prompt_done.get_or_insert_with(Instant::now);
        Ok(chosen)
    }
}
