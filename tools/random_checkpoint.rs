//! Writes a GPT-2-shaped checkpoint of random weights in Hugging Face layout, for
//! programs that read files; `wgpt --random` runs the same weights without one.
//!
//! `cargo run --release --example random_checkpoint -- target/gpt2-random --shape gpt2`

mod random_gpt2;

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum};
use random_gpt2::RandomGpt2;
use safetensors::tensor::Dtype;
use wgpt::model::random::SHAPES;

/// Writes a GPT-2-shaped checkpoint of random weights.
#[derive(Parser)]
struct Args {
    /// Directory to write; created if missing.
    out_dir: PathBuf,
    /// Published shape to start from.
    #[arg(long, default_value = "gpt2", value_parser = PossibleValuesParser::new(SHAPES.map(|shape| shape.name)))]
    shape: String,
    /// Number of blocks.
    #[arg(long)]
    n_layer: Option<usize>,
    /// Width of the residual stream.
    #[arg(long)]
    n_embd: Option<usize>,
    /// Number of attention heads.
    #[arg(long)]
    n_head: Option<usize>,
    /// Number of tokens in the vocabulary.
    #[arg(long)]
    vocab_size: Option<usize>,
    /// Longest context, in tokens.
    #[arg(long)]
    n_positions: Option<usize>,
    /// Element type of the file.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: FileDType,
    /// Seed; the same seed gives the same file.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A tokenizer.json to copy into the directory.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum FileDType {
    F32,
    F16,
    Bf16,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let shape = RandomGpt2::shape(&args.shape).ok_or_else(|| format!("no shape {:?}", args.shape))?;
    let model = RandomGpt2 {
        n_layer: args.n_layer.unwrap_or(shape.n_layer),
        n_embd: args.n_embd.unwrap_or(shape.n_embd),
        n_head: args.n_head.unwrap_or(shape.n_head),
        vocab_size: args.vocab_size.unwrap_or(shape.vocab_size),
        n_positions: args.n_positions.unwrap_or(shape.n_positions),
        dtype: match args.dtype {
            FileDType::F32 => Dtype::F32,
            FileDType::F16 => Dtype::F16,
            FileDType::Bf16 => Dtype::BF16,
        },
        seed: args.seed,
    };
    let n_parameters = model.write(&args.out_dir)?;
    if let Some(tokenizer) = &args.tokenizer {
        std::fs::copy(tokenizer, args.out_dir.join("tokenizer.json"))
            .map_err(|e| format!("cannot copy {}: {e}", tokenizer.display()))?;
    }
    eprintln!("{}: {n_parameters} parameters", args.out_dir.display());
    Ok(())
}
