//! The rooms that the door opens: every kernel against its naive twin, the contract of the
//! shaders, the sampler on the GPU, tuning, the check-up.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod checks;
mod doctor;
mod kernels;
mod sampling;
mod shader_contract;
#[path = "../support/mod.rs"]
mod support;
mod tune;
