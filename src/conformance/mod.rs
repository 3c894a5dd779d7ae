//! Cases that define the correct output of each kernel, and checks of the kernels.
//!
//! A case is an operation with its sizes, its inputs and a naive reference ([`cases`]). The
//! tests run every kernel candidate on a list of cases, and the benchmark times some.
//! The canary ([`canary`]) runs a few small cases with the types, head size and width of one
//! model, on the user's driver.

pub mod canary;
pub mod cases;
mod output;
mod shapes;

pub use canary::Dropped;
pub use output::{Outcome, Prepared};
pub use shapes::Shapes;
