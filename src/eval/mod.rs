//! Measures of a model's quality.

pub mod compare;
pub mod curve;
pub mod perplexity;
mod statistics;
pub mod tasks;

pub use statistics::MeanError;
