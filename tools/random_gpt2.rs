//! GPT-2-shaped checkpoints of random weights, for benchmarks and tests at
//! sizes that no repository should hold.

use std::borrow::Cow;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use wgpt::checkpoint::ConfigJson;
use wgpt::model::Gpt2Config;
use wgpt::model::gpt2::TensorSpec;

/// What a random checkpoint looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomGpt2 {
    /// Blocks.
    pub n_layer: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Attention heads; divides `n_embd`.
    pub n_head: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Longest context.
    pub n_positions: usize,
    /// F32, F16 or BF16.
    pub dtype: Dtype,
    /// The same seed gives the same file.
    pub seed: u64,
}

/// Published shapes: name, n_layer, n_embd, n_head.
pub const SHAPES: [(&str, usize, usize, usize); 5] = [
    ("distilgpt2", 6, 768, 12),
    ("gpt2", 12, 768, 12),
    ("gpt2-medium", 24, 1024, 16),
    ("gpt2-large", 36, 1280, 20),
    ("gpt2-xl", 48, 1600, 25),
];

impl RandomGpt2 {
    /// A published shape with GPT-2's vocabulary and context, in f32.
    pub fn shape(name: &str) -> Option<Self> {
        let &(_, n_layer, n_embd, n_head) = SHAPES.iter().find(|(shape, ..)| *shape == name)?;
        Some(RandomGpt2 {
            n_layer,
            n_embd,
            n_head,
            vocab_size: 50257,
            n_positions: 1024,
            dtype: Dtype::F32,
            seed: 0,
        })
    }

    /// Writes `config.json` and `model.safetensors` into `dir` (made where
    /// absent); returns the number of weights. One tensor at a time is in
    /// memory.
    ///
    /// # Errors
    /// A config that the library refuses, a dtype that it does not read, and
    /// what the file system reports.
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
        // The library's own list of tensors: names and shapes stand there alone.
        let parsed = Gpt2Config::from_json(&ConfigJson::from_bytes("config.json", &config)?)?;
        fs::create_dir_all(dir)?;
        fs::write(dir.join("config.json"), config)?;
        let tensors = parsed.tensors().into_iter().map(|spec| {
            let tensor = RandomTensor::new(&spec, self);
            (spec.name, tensor)
        });
        serialize_to_file(tensors, None, &dir.join("model.safetensors"))?;
        Ok(parsed.n_parameters())
    }
}

/// A tensor whose values are drawn when it is written.
struct RandomTensor {
    shape: Vec<usize>,
    dtype: Dtype,
    fill: Fill,
}

/// What a tensor holds.
#[derive(Clone, Copy)]
enum Fill {
    Constant(f32),
    Normal { std: f32, seed: u64 },
}

impl RandomTensor {
    /// GPT-2's initialisation (Radford et al. 2019, section 2.3; transformers'
    /// `GPT2PreTrainedModel._init_weights`): normal with deviation 0.02, less in
    /// the projections onto the residual stream by the root of their number, so
    /// that the stream's size does not grow with depth.
    fn new(spec: &TensorSpec, model: &RandomGpt2) -> Self {
        let mut hasher = DefaultHasher::new();
        (model.seed, &spec.name).hash(&mut hasher);
        let seed = hasher.finish();
        let name = spec.name.as_str();
        let fill = if name.ends_with(".bias") {
            Fill::Constant(0.0)
        } else if name.contains("ln_") {
            Fill::Constant(1.0)
        } else if name.ends_with("c_proj.weight") {
            Fill::Normal { std: 0.02 / (2.0 * model.n_layer as f32).sqrt(), seed }
        } else {
            Fill::Normal { std: 0.02, seed }
        };
        RandomTensor { shape: spec.shape(), dtype: model.dtype, fill }
    }

    fn values(&self) -> Vec<f32> {
        let n: usize = self.shape.iter().product();
        match self.fill {
            Fill::Constant(value) => vec![value; n],
            Fill::Normal { std, seed } => normals(n, std, seed),
        }
    }
}

impl View for RandomTensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values();
        let bytes: Vec<u8> = match self.dtype {
            Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
            _ => bytemuck::cast_slice(&values).to_vec(),
        };
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// `n` normally distributed values, two from each pair of uniform ones (Box and
/// Muller 1958).
fn normals(n: usize, std: f32, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = Vec::with_capacity(n + 1);
    while values.len() < n {
        // 2^-32 ..= 1: the logarithm is finite, no value lies beyond 6.7 deviations.
        let radius = (-2.0 * ((rng.next_u32() as f32 + 1.0) / 4_294_967_296.0).ln()).sqrt() * std;
        let (sin, cos) = (rng.next_u32() as f32 / 4_294_967_296.0 * std::f32::consts::TAU).sin_cos();
        values.extend([radius * cos, radius * sin]);
    }
    values.truncate(n);
    values
}
