//! Options and results of a generation.

use std::time::Duration;

use crate::engine::CancelFlag;
use crate::engine::lookup::LookupStats;
use crate::error::{Error, Result};
use crate::sampling::{SamplingParams, TokenLogprobs};

/// The reaction to a full context.
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
/// The defaults are wgpt's own. The caller applies a model's own defaults
/// ([`crate::engine::ModelFiles::generation_config`]), as the command line does.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Maximum number of tokens to generate. `None` generates until the context is full
    /// (with [`Overflow::Slide`]: until an end token).
    pub max_new_tokens: Option<usize>,
    /// Stop strings: texts that end the generation. They are not part of the result.
    pub stop: Vec<String>,
    /// Continues past end-of-text tokens.
    pub ignore_eos: bool,
    /// Additional tokens that end the text, such as an end-of-turn token. `ignore_eos`
    /// disables them too.
    pub end_ids: Vec<u32>,
    /// Returns the log-probability of each chosen token and of this many most probable
    /// tokens.
    pub logprobs: Option<usize>,
    /// The reaction to a full context.
    pub overflow: Overflow,
    /// Length of the drafts for prompt lookup, at most [`crate::Engine::batch_size`]
    /// minus one. A draft copies the tokens that followed an earlier occurrence of the
    /// text's last tokens. One pass verifies it. Repetitive text is generated faster,
    /// with the same tokens. Without `deterministic`, tokens may differ where logits tie
    /// within their last digits. Requires plain greedy sampling without
    /// log-probabilities.
    pub prompt_lookup: Option<usize>,
    /// A flag that ends the generation; any thread may raise it.
    pub cancel: Option<CancelFlag>,
    /// Time limit for prompt and text together, from the call that starts the generation.
    /// After it, the text ends with [`FinishReason::Timeout`]. A prompt ends after the
    /// chunk in progress, so there may be no token at all.
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
    /// Checks everything that can be checked without a device.
    ///
    /// # Errors
    /// [`Error::Input`] for parameters out of range, as [`SamplingParams::validate`], and
    /// for options that exclude each other.
    pub fn validate(&self, vocab_size: usize) -> Result<()> {
        self.sampling.validate(vocab_size)?;
        if self.logprobs.is_some_and(|n| n > vocab_size) {
            return Err(Error::input(format!(
                "logprobs: expected at most {vocab_size}, the vocabulary's size"
            )));
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

/// The reason why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose an end-of-text token.
    Eos,
    /// A stop string occurred.
    StopString,
    /// The requested number of tokens or the end of the context was reached.
    Length,
    /// The cancel flag was raised, or the stream was dropped.
    Cancelled,
    /// The time limit was reached.
    Timeout,
}

impl FinishReason {
    /// The name used in reports. Both an end token and a stop string are "stop".
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

/// One piece of text from a [`crate::Generation`].
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The chosen token. `None` for a last piece that contains only held-back text.
    pub token: Option<u32>,
    /// Text that can no longer change: whole characters, and no part of a stop string.
    /// Empty if the model has no tokenizer.
    pub text: String,
    /// Log-probabilities of the token and of the most probable ones, if requested.
    pub logprobs: Option<TokenLogprobs>,
}

/// Durations and counts of a generation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Tokens of the prompt that were evaluated; tokens already cached are not counted.
    pub prompt_tokens: usize,
    /// Time from the start to the first token's logits.
    pub prompt: Duration,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// Time from the first token's logits to the end.
    pub generation: Duration,
    /// Statistics of the drafts, if [`GenerateOptions::prompt_lookup`] is set.
    pub lookup: Option<LookupStats>,
}

impl Timings {
    /// Prompt tokens per second.
    #[must_use]
    pub fn prompt_rate(&self) -> f64 {
        self.prompt_tokens as f64 / self.prompt.as_secs_f64()
    }

    /// Generated tokens per second, excluding the first token, which came with the
    /// prompt.
    #[must_use]
    pub fn generation_rate(&self) -> f64 {
        self.generated_tokens.saturating_sub(1) as f64 / self.generation.as_secs_f64()
    }
}
