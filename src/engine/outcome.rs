//! How a generation ended, and what it took.

use std::time::Duration;

use super::LookupStats;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose an end-of-text token.
    Eos,
    /// A stop string occurred.
    StopString,
    /// The number of tokens asked for, or the context's end, was reached.
    Length,
    /// The cancel flag was raised.
    Cancelled,
}

impl FinishReason {
    /// The word that reports use: both ways of stopping are "stop".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            FinishReason::Eos | FinishReason::StopString => "stop",
            FinishReason::Length => "length",
            FinishReason::Cancelled => "cancelled",
        }
    }
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
    /// Drafts, where [`super::GenerateOptions::prompt_lookup`] asked for them.
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
