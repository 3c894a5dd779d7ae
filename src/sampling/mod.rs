//! From logits to a token id: penalties, filters, random draw, log-probabilities.
//!
//! This module uses neither tokenizer nor GPU. It takes one row of logits
//! (`[vocab_size]`, f32) and returns ids and probabilities.

mod candidates;
mod check;
mod log_prob;
mod params;
mod penalties;
mod sampler;
#[cfg(test)]
mod tests;

pub use candidates::Candidate;
pub use log_prob::{LogSoftmax, NllSum, TokenLogprobs, negative_log_likelihood, perplexity, token_logprobs};
pub use params::SamplingParams;
pub use sampler::{Generator, Sampler};
