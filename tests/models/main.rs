//! Whole models and their files: logits against transformers, checkpoints, chat
//! templates, tokenizers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chat_template;
mod checkpoint;
mod golden;
mod long_context;
#[path = "../support/mod.rs"]
mod support;
mod tokenizer;
