//! Checkpoints: exact values, any rectangle, shards, and every way in which a file can be
//! wrong. The safetensors crate writes the files and is the oracle.
mod blocks;
mod config;
mod damage;
mod shards;
