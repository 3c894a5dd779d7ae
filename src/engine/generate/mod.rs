//! The generation loop: from logits to text.

mod choose;
mod options;
mod steps;
mod stream;

use std::time::Instant;

pub use options::{FinishReason, GenerateOptions, Overflow, Piece, Timings};
pub use steps::GenerationStep;
pub use stream::GenerationStream;

use super::frame_budget::StepReport;
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
    /// Tokens that the session has not evaluated yet.
    pending: Vec<u32>,
    /// Prompt and generated tokens; the penalties apply to these.
    history: Vec<u32>,
    n_prompt: usize,
    /// Tokens of the prompt that the session had already evaluated.
    n_cached: usize,
    /// Index in `history` of the session's first token.
    start: usize,
    finish: Option<FinishReason>,
    ended: bool,
    started: Instant,
    prompt_done: Option<Instant>,
    finished: Option<Instant>,
    report: StepReport,
}

/// The parts of a generation that can fail to be created.
struct Start {
    /// The session's tokens and the prompt.
    history: Vec<u32>,
    sampler: Sampler,
    source: TokenSource,
    eos: Vec<u32>,
    decoder: Option<StreamDecoder>,
    stops: StopStrings,
}

impl Start {
    fn new(
        engine: &Engine,
        session: &mut Session,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        session.check_fed()?;
        let files = engine.files();
        let n_ctx = engine.n_ctx();
        let mut history = Vec::with_capacity(session.len() + prompt.len() + n_ctx);
        history.extend_from_slice(session.tokens());
        history.extend_from_slice(prompt);
        if history.is_empty() {
            let empty = "the prompt is empty, and the model names no token that begins a text: give a prompt";
            history.push(files.bos_token_id().ok_or_else(|| Error::input(empty))?);
        }
        if history.len() > n_ctx && options.overflow == Overflow::Stop {
            return Err(Error::input(format!(
                "the prompt has {} tokens, but the context holds {n_ctx}: shorten it, or keep its newer part \
                 (Overflow::Slide)",
                history.len()
            )));
        }
        let vocab_size = engine.vocab_size();
        if let Some(id) = history.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::input(format!("token {id} is outside the vocabulary of {vocab_size} tokens")));
        }
        options.validate(vocab_size)?;
        let sampler = Sampler::new(options.sampling.clone(), vocab_size)?;
        let mut eos = if options.ignore_eos { Vec::new() } else { files.eos_token_ids().to_vec() };
        if !options.ignore_eos {
            let more = options.end_ids.iter().filter(|id| !files.eos_token_ids().contains(id));
            eos.extend(more);
        }
        // Without a tokenizer a generation returns token ids only. A damaged tokenizer is
        // an error, and so is a stop string without a tokenizer.
        let decoder = if files.has_tokenizer() || !options.stop.is_empty() {
            Some(StreamDecoder::new(engine.tokenizer()?.clone(), true))
        } else {
            None
        };
        // If the prompt adds no token, the session's last token runs again to get its
        // logits.
        session.truncate(history.len() - 1);
        let source = TokenSource::new(session, options, &sampler, &eos)?;
        let stops = StopStrings::new(options.stop.iter().cloned())?;
        Ok(Start { history, sampler, source, eos, decoder, stops })
    }
}

impl Generation {
    pub(super) fn new(
        engine: &Engine,
        session: Session,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> Result<Self> {
        Self::start(engine, session, prompt, options).map_err(|failed| failed.0)
    }

    /// Like [`Generation::new`], but an error also returns the session.
    pub(super) fn start(
        engine: &Engine,
        mut session: Session,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> std::result::Result<Self, Box<(Error, Session)>> {
        let Start { history, sampler, source, eos, decoder, stops } =
            match Start::new(engine, &mut session, prompt, &options) {
                Ok(start) => start,
                Err(error) => return Err(Box::new((error, session))),
            };
        let deadline = deadline_in(options.timeout);
        session.interrupt = Interrupt { cancel: options.cancel.clone(), deadline, abandoned: None };
        Ok(Generation {
            n_cached: session.len(),
            start: 0,
            n_ctx: engine.n_ctx(),
            sampler,
            source,
            eos,
            decoder,
            stops,
            n_prompt: history.len(),
            pending: history[session.len()..].to_vec(),
            history,
            session,
            finish: None,
            ended: false,
            started: Instant::now(),
            prompt_done: None,
            finished: None,
            report: StepReport::default(),
            options,
        })
    }

    /// The session's tokens at the start, followed by the prompt. If there were none,
    /// this is the model's begin token.
    #[must_use]
    pub fn prompt_tokens(&self) -> &[u32] {
        &self.history[..self.n_prompt]
    }

    /// The generated tokens so far, without the end token.
    #[must_use]
    pub fn tokens(&self) -> &[u32] {
        &self.history[self.n_prompt..]
    }

    /// The reason why the text ended; `None` while it is running.
    #[must_use]
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish
    }

    /// The seed of the random numbers.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// Whether pieces contain text.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.decoder.is_some()
    }

    /// Durations and counts so far.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let now = self.finished.unwrap_or_else(Instant::now);
        let prompt_done = self.prompt_done.unwrap_or(now);
        Timings {
            prompt_tokens: self.n_prompt - self.n_cached,
            prompt: prompt_done - self.started,
            generated_tokens: self.tokens().len(),
            generation: now - prompt_done,
            lookup: match &self.source {
                TokenSource::Lookup(lookup) => Some(lookup.stats()),
                TokenSource::Plain | TokenSource::Ahead(_) => None,
            },
        }
    }

    /// Stops and returns the session. It holds the prompt and generated tokens that fit
    /// the context. Tokens that have not run are run now. The cancel flag and the time
    /// limit no longer apply.
    ///
    /// # Errors
    /// As [`Session::advance`].
    pub fn into_session(self) -> Result<Session> {
        let Generation { mut session, source, history, start, n_ctx, .. } = self;
        source.end()?;
        session.interrupt = Interrupt::default();
        // Drafts and steps ahead may have gone beyond the returned tokens.
        let wanted = &history[start..history.len().min(start + n_ctx)];
        let common = session.tokens().iter().zip(wanted).take_while(|(a, b)| a == b).count();
        session.truncate(common);
        session.rewind(common);
        if common < wanted.len() {
            session.prefill(&wanted[common..])?;
        }
        Ok(session)
    }

    /// Ends the text; the next piece contains the text that was held back.
    fn end(&mut self, reason: FinishReason) {
        self.finish = Some(reason);
        self.finished = Some(Instant::now());
    }

    /// Frees positions if the context is full. Returns `false` if the text ends here.
    fn free_context(&mut self) -> Result<bool> {
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
        self.start = self.history.len() - keep;
        self.pending.clear();
        self.pending.extend_from_slice(&self.history[self.start..]);
        Ok(true)
    }
}
