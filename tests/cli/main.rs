//! The command line, by running the binary.

mod arguments;
mod bench;
mod damaged;
mod devices;
mod generate;
mod logits;
mod models;
mod perplexity;
mod program;
mod signals;
