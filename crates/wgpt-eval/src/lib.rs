//! Evaluation of models: perplexity, tasks, training curves, comparison of two models.

pub mod compare;
pub mod curve;
pub mod perplexity;
mod statistics;
pub mod tasks;

pub use statistics::MeanError;
