//! The public interface, with the door shut: models as bytes, conversations, texts,
//! the examples.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bytes;
mod chat;
mod examples;
#[path = "../support/mod.rs"]
mod support;
mod text;
