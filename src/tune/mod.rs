//! Which kernel candidates are the fastest for a model on a device.
//!
//! [`run`] searches: candidates that pass the canary are timed in turn. [`cache`] stores
//! the result in a file, from which a model takes its kernels when it is loaded.

mod bed;
pub mod cache;
mod search;
mod statistics;

pub use search::{Budget, OpTuning, Progress, Timed, Tuning, run, run_among};
pub use statistics::quantile;
