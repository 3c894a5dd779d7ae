//! Evaluation of models: perplexity, tasks, training curves, comparison of two models.

pub mod compare;
pub mod curve;
pub mod perplexity;
mod statistics;
pub mod tasks;

pub use statistics::MeanError;

/// Formats a number of things, such as "1 token" or "2 tokens".
fn plural(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
