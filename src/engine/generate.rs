//! The loop that turns logits into text.

mod choose;
mod options;
mod steps;
mod stream;

use std::time::Instant;

pub use options::{FinishReason, GenerateOptions, Overflow, Piece, Timings};
pub use steps::GenerationStep;
pub use stream::GenerationStream;

use super::budget::StepReport;
use super::interrupt::{Interrupt, deadline_in};
use super::source::TokenSource;
use super::{Engine, Session};
use crate::error::{Error, Result};
use crate::sampling::Sampler;
use crate::text::{StopStrings, StreamDecoder};

/// A running generation: an iterator over pieces of text.
pub struct Generation {
    session: Session,
    n_ctx: usize,
    options: GenerateOptions,
    sampler: Sampler,
    source: TokenSource,
    eos: Vec<u32>,
    decoder: Option<StreamDecoder>,
    stops: StopStrings,
    /// Tokens that the session has not seen yet.
    pending: Vec<u32>,
    /// Prompt and generated tokens: what penalties look at.
    history: Vec<u32>,
    n_prompt: usize,
    finish: Option<FinishReason>,
    ended: bool,
    started: Instant,
    prompt_done: Option<Instant>,
    finished: Option<Instant>,
    report: StepReport,
}

impl Generation {
    pub(super) fn new(engine: &Engine, prompt: &[u32], options: GenerateOptions) -> Result<Self> {
        let files = engine.files();
        let prompt = match (prompt, files.bos_token_id()) {
            ([], Some(bos)) => vec![bos],
            ([], None) => {
                return Err(Error::input("the prompt is empty, and the model names no token to begin with"));
            }
            (prompt, _) => prompt.to_vec(),
        };
        let n_ctx = engine.n_ctx();
        if prompt.len() > n_ctx && options.overflow == Overflow::Stop {
            return Err(Error::input(format!(
                "the prompt has {} tokens, the context holds {n_ctx}: shorten it, or use --overflow slide to keep \
                 its newer part",
                prompt.len()
            )));
        }
        let vocab_size = engine.vocab_size();
        if let Some(id) = prompt.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::input(format!("token {id} is outside the vocabulary of {vocab_size} tokens")));
        }
        options.validate(vocab_size)?;
        let sampler = Sampler::new(options.sampling.clone(), vocab_size)?;
        let eos = if options.ignore_eos { Vec::new() } else { files.eos_token_ids().to_vec() };
        // Without a tokenizer there are token ids alone; a damaged one, or a stop
        // string without one, is an error.
        let decoder = if files.has_tokenizer() || !options.stop.is_empty() {
            Some(StreamDecoder::new(engine.tokenizer()?.clone(), true))
        } else {
            None
        };
        let mut session = engine.session();
        let source = TokenSource::new(&session, &options, &sampler, &eos)?;
        let deadline = deadline_in(options.timeout);
        session.interrupt = Interrupt { cancel: options.cancel.clone(), deadline, abandoned: None };
        let mut history = Vec::with_capacity(prompt.len() + n_ctx);
        history.extend_from_slice(&prompt);
        Ok(Generation {
            session,
            n_ctx,
            sampler,
            source,
            eos,
            decoder,
            stops: StopStrings::new(options.stop.iter().cloned())?,
            n_prompt: prompt.len(),
            pending: prompt,
            history,
            finish: None,
            ended: false,
            started: Instant::now(),
            prompt_done: None,
            finished: None,
            report: StepReport::default(),
            options,
        })
    }

    /// The tokens of the prompt: an empty one was given a beginning.
    #[must_use]
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.history[..self.n_prompt]
    }

    /// The tokens generated so far, without an end token.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.history[self.n_prompt..]
    }

    /// Why the text ended; `None` while it runs.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// The seed of the draws.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// Whether pieces bring text.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.decoder.is_some()
    }

    /// Durations so far.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let now = self.finished.unwrap_or_else(Instant::now);
        let prompt_done = self.prompt_done.unwrap_or(now);
        Timings {
            prompt_tokens: self.n_prompt,
            prompt: prompt_done - self.started,
            generated_tokens: self.tokens().len(),
            generation: now - prompt_done,
            lookup: match &self.source {
                TokenSource::Lookup(lookup) => Some(lookup.stats()),
                TokenSource::Plain | TokenSource::Ahead(_) => None,
            },
        }
    }

    /// Ends the text; the next piece brings what was held back.
    fn end(&mut self, reason: FinishReason) {
        self.finish = Some(reason);
        self.finished = Some(Instant::now());
    }

    /// Makes room in a full context; `false` when the text ends here.
    fn make_room(&mut self) -> Result<bool> {
        let chosen = matches!(&self.source, TokenSource::Lookup(lookup) if lookup.is_ready());
        if chosen || self.session.len() + self.pending.len() <= self.n_ctx {
            return Ok(true);
        }
        if self.options.overflow == Overflow::Stop {
            return Ok(false);
        }
        if let TokenSource::Ahead(ahead) = &mut self.source {
            ahead.restart()?;
        }
        let keep = (self.n_ctx / 2).max(1);
        self.session.truncate(0);
        self.pending.clear();
        self.pending.extend_from_slice(&self.history[self.history.len() - keep..]);
        Ok(true)
    }
}
