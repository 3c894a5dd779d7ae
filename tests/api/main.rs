//! The public interface, with the door shut: conversations, texts, the examples.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat;
mod examples;
mod text;
