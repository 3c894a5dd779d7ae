//! The command line, by running the binary.

#![allow(clippy::unwrap_used, reason = "a helper that fails is a test that fails")]

mod arguments;
mod bench;
mod bench_kernels;
mod chat;
mod compare;
mod curve;
mod damaged;
mod devices;
mod doctor;
mod eval;
mod generate;
mod logits;
mod memory;
#[path = "../../../../tests/support/models.rs"]
mod models;
mod perplexity;
mod profile;
mod program;
mod random;
mod signals;
mod spellings;
mod tune;
