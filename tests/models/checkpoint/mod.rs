//! Checkpoints: exact values, any rectangle, shards, and every way in which a file can be
//! wrong. The safetensors crate writes the files and is the oracle.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod blocks;
mod config;
mod damage;
mod files;
mod heap;
mod shards;
