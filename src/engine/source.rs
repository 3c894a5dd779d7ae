//! The source of a generation's tokens.

use super::Session;
use super::ahead::AheadSource;
use super::generate::GenerateOptions;
use super::lookup::Lookup;
use crate::error::Result;
use crate::sampling::Sampler;

/// The source of the next token.
pub(super) enum TokenSource {
    /// Each token takes a pass, then the sampler on the CPU.
    Plain,
    /// Draft tokens are verified, several per pass.
    Lookup(Box<Lookup>),
    /// Steps are encoded ahead and sampled on the GPU.
    Ahead(Box<AheadSource>),
}

impl TokenSource {
    pub(super) fn new(
        session: &Session,
        options: &GenerateOptions,
        sampler: &Sampler,
        eos: &[u32],
    ) -> Result<Self> {
        if let Some(draft_len) = options.prompt_lookup {
            return Ok(TokenSource::Lookup(Box::new(Lookup::new(session, draft_len)?)));
        }
        // Log-probabilities need the logits on the host.
        if options.logprobs.is_some() {
            return Ok(TokenSource::Plain);
        }
        let most = options.max_new_tokens.unwrap_or(usize::MAX);
        let ahead = AheadSource::new(session, sampler, eos, most)?;
        Ok(ahead.map_or(TokenSource::Plain, |ahead| TokenSource::Ahead(Box::new(ahead))))
    }

    /// Waits for the submits in flight.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] from the device.
    pub(super) fn end(self) -> Result<()> {
        match self {
            TokenSource::Ahead(mut ahead) => ahead.restart(),
            TokenSource::Plain | TokenSource::Lookup(_) => Ok(()),
        }
    }

    /// Switches to one pass per token. The caller ensures that no lookup has tokens
    /// ready.
    ///
    /// # Errors
    /// [`crate::Error::Gpu`] from the device.
    pub(super) fn make_plain(&mut self, session: &Session, sampler: &mut Sampler) -> Result<()> {
        if let TokenSource::Ahead(ahead) = self {
            sampler.set_draws(ahead.draws());
            if !ahead.must_be_replaced(session) {
                ahead.restart()?;
            }
        }
        *self = TokenSource::Plain;
        Ok(())
    }

    /// Replaces a source of steps ahead after a failure, or after the engine moved to
    /// another device. Tokens that were not returned yet are computed again, from the same
    /// random numbers.
    ///
    /// # Errors
    /// As [`TokenSource::new`].
    pub(super) fn follow(
        &mut self,
        session: &Session,
        sampler: &mut Sampler,
        eos: &[u32],
        remaining: usize,
    ) -> Result<()> {
        let TokenSource::Ahead(ahead) = self else { return Ok(()) };
        if ahead.must_be_replaced(session) {
            sampler.set_draws(ahead.draws());
            let renewed = AheadSource::new(session, sampler, eos, remaining)?;
            *self = renewed.map_or(TokenSource::Plain, |ahead| TokenSource::Ahead(Box::new(ahead)));
        }
        Ok(())
    }
}
