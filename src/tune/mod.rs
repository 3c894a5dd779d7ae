//! Correctness and speed of kernels: what a kernel must compute, whether it does, and
//! which kernel is the fastest.
//!
//! Cases, each with a naive reference, serve tests and benchmarks ([`cases`]) and the
//! canary ([`canary`]). [`run`] searches for the fastest kernels. [`cache`] stores the
//! result.

mod bed;
pub mod cache;
pub mod canary;
pub mod cases;
mod output;
mod probes;
mod search;
mod shapes;
mod statistics;

pub use canary::Dropped;
pub use output::{Outcome, Prepared};
pub use probes::Probe;
pub use search::{Budget, OpTuning, Progress, Timed, Tuning, run, run_among};
pub use shapes::Shapes;
pub use statistics::quantile;
