//! Measures of the quality of a model.

pub mod compare;
pub mod curve;
pub mod perplexity;
mod statistics;
pub mod tasks;

pub use statistics::MeanError;
