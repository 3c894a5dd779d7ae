//! How a text is generated, and what is told of it.

use std::time::Duration;

use crate::engine::CancelFlag;
use crate::engine::lookup::LookupStats;
use crate::error::{Error, Result};
use crate::sampling::{SamplingParams, TokenLogprobs};

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
/// The defaults are wgpt's own; a model's, [`crate::engine::ModelFiles::generation_config`],
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
    /// Tokens that end the text beside the model's own, such as a turn's end.
    pub end_ids: Vec<u32>,
    /// Log-probabilities of each chosen token and of that many best ones.
    pub logprobs: Option<usize>,
    /// What happens when the context is full.
    pub overflow: Overflow,
    /// Drafts of that many tokens, copied from where the text's end occurred before,
    /// are verified in one pass: the same tokens (without
    /// `deterministic` up to ties within the logits' last digits), sooner where texts repeat
    /// themselves. At most [`crate::Engine::batch_size`] less one; for plain greedy sampling
    /// without log-probabilities.
    pub prompt_lookup: Option<usize>,
    /// A flag that ends the generation, also from another thread.
    pub cancel: Option<CancelFlag>,
    /// Time for the prompt and the text together, from the call that begins them on:
    /// then the text ends, with [`FinishReason::Timeout`]. A prompt ends within a chunk,
    /// so that no token may come at all.
    pub timeout: Option<Duration>,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        GenerateOptions {
            sampling: SamplingParams::default(),
            max_new_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
            end_ids: Vec::new(),
            logprobs: None,
            overflow: Overflow::Stop,
            prompt_lookup: None,
            cancel: None,
            timeout: None,
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

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose an end-of-text token.
    Eos,
    /// A stop string occurred.
    StopString,
    /// The number of tokens asked for, or the context's end, was reached.
    Length,
    /// The cancel flag was raised, or a stream was dropped.
    Cancelled,
    /// The time was over.
    Timeout,
}

impl FinishReason {
    /// The word that reports use: both ways of stopping are "stop".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FinishReason::Eos | FinishReason::StopString => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Timeout => "timeout",
        }
    }
}

/// One step of a [`crate::Generation`].
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

/// Durations and counts of a generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the start to the first token's logits.
    pub prompt: Duration,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// From the first token's logits to the end.
    pub generation: Duration,
    /// Drafts, where [`GenerateOptions::prompt_lookup`] asked for them.
    pub lookup: Option<LookupStats>,
}

impl Timings {
    /// Prompt tokens a second.
    #[must_use]
    pub fn prompt_rate(&self) -> f64 {
        self.prompt_tokens as f64 / self.prompt.as_secs_f64()
    }

    /// Generated tokens a second; the first one came with the prompt.
    #[must_use]
    pub fn generation_rate(&self) -> f64 {
        self.generated_tokens.saturating_sub(1) as f64 / self.generation.as_secs_f64()
    }
}
