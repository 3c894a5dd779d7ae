//! Loading a model onto the GPU: the values there, the memory that it and its sessions
//! take on both sides, progress, and every way in which a model is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod budget;
mod errors;
mod files;
mod heap;
mod plan;
mod progress;
mod random;
#[path = "../../tools/random_gpt2.rs"]
mod random_gpt2;
mod sessions;
mod weights;
