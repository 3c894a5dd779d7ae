//! The loop that turns logits into text.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::source::TokenSource;
use super::{CancelFlag, Engine, FinishReason, Session, Timings};
use crate::error::{Error, Result};
use crate::sampling::{Sampler, SamplingParams, TokenLogprobs, token_logprobs};
use crate::text::{StopStrings, StreamDecoder};

/// What happens when the context is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The text ends, with [`FinishReason::Length`].
    #[default]
    Stop,
    /// The newer half of the context is kept and prefilled again.
    Slide,
}

/// How text is generated.
///
/// The defaults are wgpt's own; a model's, [`super::ModelFiles::generation_config`],
/// are for the caller to apply, as the command line does.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Most tokens to generate; `None` for as many as the context holds (with
    /// [`Overflow::Slide`]: until an end token).
    pub max_new_tokens: Option<usize>,
    /// Texts that end the generation; they are not part of the result.
    pub stop: Vec<String>,
    /// Goes on behind end-of-text tokens.
    pub ignore_eos: bool,
    /// Log-probabilities of each chosen token and of that many best ones.
    pub logprobs: Option<usize>,
    /// What happens when the context is full.
    pub overflow: Overflow,
    /// Drafts of that many tokens, copied from where the text's end occurred before,
    /// are verified in one pass: the same tokens (without
    /// `deterministic` up to ties within the logits' last digits), sooner where texts repeat
    /// themselves. At most [`Engine::batch_size`] less one; for plain greedy sampling
    /// without log-probabilities.
    pub prompt_lookup: Option<usize>,
    /// A flag that ends the generation, also from another thread.
    pub cancel: Option<CancelFlag>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            sampling: SamplingParams::default(),
            max_new_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            overflow: Overflow::Stop,
            prompt_lookup: None,
            cancel: None,
        }
    }
}

impl GenerateOptions {
    /// Checks what can be checked without a device.
    ///
    /// # Errors
    /// [`Error::Input`] for parameters outside their range, as
    /// [`SamplingParams::validate`], and for options that exclude one another.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        self.sampling.validate(vocab_size)?;
        if self.logprobs.is_some_and(|n| n > vocab_size) {
            return Err(Error::input(format!("logprobs: at most {vocab_size}, the size of the vocabulary")));
        }
        if self.prompt_lookup.is_some() && !(self.sampling.is_plain_greedy() && self.logprobs.is_none()) {
            return Err(Error::input(
                "prompt lookup verifies what greedy decoding chooses: it needs temperature 0, no penalties, no \
                 logit bias and no logprobs",
            ));
        }
        Ok(())
    }
}

/// One step of a [`Generation`].
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The chosen token; `None` in the last piece, which brings the text that
    /// was held back.
    pub token: Option<u32>,
    /// Text that is certain by now: whole characters, no part of a stop
    /// string. Empty where the model has no tokenizer.
    pub text: String,
    /// The token's log-probability and the best ones, where asked for.
    pub logprobs: Option<TokenLogprobs>,
}

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
    /// Tokens of the prompt that the session had seen.
    n_cached: usize,
    /// Where the session's tokens begin in `history`.
    start: usize,
    finish: Option<FinishReason>,
    ended: bool,
    started: Instant,
    prompt_done: Option<Instant>,
    finished: Option<Instant>,
}

impl Generation {
    pub(super) fn new(
        engine: &Engine,
        mut session: Session,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> Result<Self> {
        let files = engine.files();
        let n_ctx = engine.n_ctx();
        let mut history = Vec::with_capacity(session.len() + prompt.len() + n_ctx);
        history.extend_from_slice(session.tokens());
        history.extend_from_slice(prompt);
        if history.is_empty() {
            let empty = "the prompt is empty, and the model names no token to begin with";
            history.push(files.bos_token_id().ok_or_else(|| Error::input(empty))?);
        }
        if history.len() > n_ctx && options.overflow == Overflow::Stop {
            return Err(Error::input(format!(
                "the prompt has {} tokens, the context holds {n_ctx}: shorten it, or use --overflow slide to keep \
                 its newer part",
                history.len()
            )));
        }
        let vocab_size = engine.vocab_size();
        if let Some(id) = history.iter().find(|&&id| id as usize >= vocab_size) {
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
        // Behind a session without a prompt the last token runs again, for its logits.
        session.truncate(history.len() - 1);
        let source = TokenSource::new(&session, &options, &sampler, &eos)?;
        if let Some(flag) = &options.cancel {
            session.set_cancel(flag.clone());
        }
        Ok(Generation {
            n_cached: session.len(),
            start: 0,
            n_ctx,
            sampler,
            source,
            eos,
            decoder,
            stops: StopStrings::new(options.stop.iter().cloned())?,
            n_prompt: history.len(),
            pending: history[session.len()..].to_vec(),
            history,
            session,
            finish: None,
            ended: false,
            started: Instant::now(),
            prompt_done: None,
            finished: None,
            options,
        })
    }

    /// The tokens of the prompt, those of the session that it began with in front: an
    /// empty one was given a beginning.
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

    /// Lets a text go on that ended with an error: once the engine has another device
    /// ([`Engine::rebind`]), once there is memory again. The next piece is the one that
    /// failed. Does nothing behind any other end.
    pub fn resume(&mut self) {
        self.ended &= self.finish.is_some();
    }

    /// Ends here and hands over the session with prompt and tokens, those that the
    /// context holds; the last one is run for that.
    ///
    /// # Errors
    /// As [`Session::advance`].
    pub fn into_session(self) -> Result<Session> {
        let Generation { mut session, source, history, start, n_ctx, .. } = self;
        source.end()?;
        session.cancel = None;
        // Drafts and steps ahead may have gone further than the tokens handed out.
        let wanted = &history[start..history.len().min(start + n_ctx)];
        let common = session.tokens().iter().zip(wanted).take_while(|(a, b)| a == b).count();
        session.rewind(common);
        if common < wanted.len() {
            session.prefill(&wanted[common..])?;
        }
        Ok(session)
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
        self.start = self.history.len() - keep;
        self.pending.clear();
        self.pending.extend_from_slice(&self.history[self.start..]);
        Ok(true)
    }

    /// Runs the pending tokens and chooses the next one.
    fn choose(&mut self) -> Result<(u32, Option<TokenLogprobs>)> {
        let most = self.options.max_new_tokens.map_or(usize::MAX, |most| most - self.tokens().len());
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

    fn step(&mut self) -> Result<Option<Piece>> {
        let remaining = self.options.max_new_tokens.map_or(usize::MAX, |most| most - self.tokens().len());
        self.source.follow(&self.session, &mut self.sampler, &self.eos, remaining)?;
        if self.options.cancel.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
            self.end(FinishReason::Cancelled);
        } else if self.options.max_new_tokens.is_some_and(|most| self.tokens().len() >= most)
            || !self.make_room()?
        {
            self.end(FinishReason::Length);
        }
        if self.finish.is_some() {
            return self.flush();
        }
        let (token, logprobs) = match self.choose() {
            Err(Error::Cancelled) => {
                self.end(FinishReason::Cancelled);
                return self.flush();
            }
            chosen => chosen?,
        };
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

    /// The text that was held back, once.
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
        let step = self.step();
        if step.is_err() {
            self.ended = true;
        }
        step.transpose()
    }
}
