//! Measures of a model's quality.

pub mod perplexity;
pub mod tasks;
