//! What a kernel must compute, and whether it does: cases, each with a naive
//! reference, that tests and benchmarks share.

pub mod cases;
mod output;
mod probes;

pub use output::{Outcome, Prepared};
pub use probes::Probe;
