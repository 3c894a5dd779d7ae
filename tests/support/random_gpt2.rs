//! GPT-2-shaped checkpoints of random weights as files, for tests of loading: the values
//! are those of `wgpt --random`.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, View, serialize_to_file};
use wgpt::internals::checkpoint::{Checkpoint, ConfigJson, TensorInfo};
use wgpt::internals::model::Decoder;
use wgpt::internals::model::random::{self, Shape};

/// The shape, element type and seed of a random checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomGpt2 {
    /// Number of blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Number of attention heads; divides `n_embd`.
    pub n_head: usize,
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Longest context, in tokens.
    pub n_positions: usize,
    /// F32, F16 or BF16.
    pub dtype: Dtype,
    /// The same seed gives the same file.
    pub seed: u64,
}

impl RandomGpt2 {
    /// Returns a published shape, in f32.
    pub fn shape(name: &str) -> Option<Self> {
        let shape = Shape::named(name).filter(|shape| shape.model_type == "gpt2")?;
        let Shape { n_layer, n_embd, n_head, vocab_size, n_positions, .. } = shape;
        Some(RandomGpt2 { n_layer, n_embd, n_head, vocab_size, n_positions, dtype: Dtype::F32, seed: 0 })
    }

    /// Writes `config.json` and `model.safetensors` into `dir`, which is created if
    /// missing; returns the number of weights. One tensor at a time is in memory.
    ///
    /// # Errors
    /// A config that the library refuses, a dtype that it does not read, and errors of
    /// the file system.
    pub fn write(&self, dir: &Path) -> Result<u64, Box<dyn std::error::Error>> {
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(format!("dtype {}: expected F32, F16 or BF16", self.dtype).into());
        }
        let config = serde_json::json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_layer": self.n_layer,
            "n_embd": self.n_embd,
            "n_head": self.n_head,
            "vocab_size": self.vocab_size,
            "n_positions": self.n_positions,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": true,
        });
        let config = serde_json::to_vec_pretty(&config)?;
        let parsed = Decoder::from_json(&ConfigJson::from_bytes("config.json", &config)?)?;
        let checkpoint = random::checkpoint(&parsed, self.seed)?;
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), config)?;
        let tensors = checkpoint
            .tensors()
            .iter()
            .map(|info| (&info.name, RandomTensor { checkpoint: &checkpoint, info, dtype: self.dtype }));
        serialize_to_file(tensors, None, &dir.join("model.safetensors"))?;
        Ok(parsed.n_parameters())
    }
}

/// A tensor whose values are computed when it is written.
struct RandomTensor<'a> {
    checkpoint: &'a Checkpoint,
    info: &'a TensorInfo,
    dtype: Dtype,
}

impl View for RandomTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let (rows, columns) = match self.info.shape[..] {
            [n] => (1, n),
            [rows, columns] => (rows, columns),
            _ => unreachable!("GPT-2 has vectors and matrices"),
        };
        let mut values = vec![0.0; rows * columns];
        let mut reader = self.checkpoint.reader();
        reader.read_block(self.info, 0..rows, 0..columns, &mut values).expect("it is computed, not read");
        let bytes: Vec<u8> = match self.dtype {
            Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.info.len_elems() * self.dtype.bitsize() / 8
    }
}
