//! What a kernel must compute, and whether it does: cases, each with a naive
//! reference, that tests and benchmarks share.

pub mod cases;
mod output;

pub use output::{Outcome, Prepared};
