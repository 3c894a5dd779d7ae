//! Measures the speed of candle's Llama on the CPU with the shape of SmolLM2-135M and
//! random f16 weights: `peer-candle [N_PROMPT] [N_GEN]`.
//!
//! The loop follows candle's own example `llama`, without text and sampling.

#[path = "../llama.rs"]
mod llama;
#[path = "../report.rs"]
mod report;

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama};
use llama::SMOLLM2_135M;
use report::Report;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse().expect("arguments are numbers"));
    let (n_prompt, n_gen): (usize, usize) = (number(8), number(12));

    let device = Device::Cpu;
    let config = config();
    let tensors = random_weights(&device)?;
    let start = Instant::now();
    let model = Llama::load(VarBuilder::from_tensors(tensors, DType::F16, &device), &config)?;
    let load_seconds = start.elapsed().as_secs_f64();

    // Warm up with a prompt of two tokens, so that no timed code runs for the first time.
    let mut cache = Cache::new(true, DType::F16, &config, &device)?;
    model.forward(&Tensor::new(&[[1u32, 2]], &device)?, 0, &mut cache)?;

    let mut cache = Cache::new(true, DType::F16, &config, &device)?;
    let prompt: Vec<u32> = (0..n_prompt as u32).map(|i| 7919 * i % config.vocab_size as u32).collect();
    let start = Instant::now();
    let mut token =
        best(&model.forward(&Tensor::new(prompt.as_slice(), &device)?.unsqueeze(0)?, 0, &mut cache)?)?;
    let prompt_seconds = start.elapsed().as_secs_f64();
    let mut step_seconds = Vec::new();
    let mut tokens = Vec::new();
    for pos in n_prompt..n_prompt + n_gen {
        let start = Instant::now();
        token = best(&model.forward(&Tensor::new(&[[token]], &device)?, pos, &mut cache)?)?;
        step_seconds.push(start.elapsed().as_secs_f64());
        tokens.push(token);
    }

    Report {
        engine: "candle 0.11.1",
        adapter: "CPU",
        model: &SMOLLM2_135M.describe(),
        dtype: "f16",
        n_depth: n_prompt,
        load_seconds,
        prompt_seconds: Some(prompt_seconds),
        step_seconds: &step_seconds,
        tokens: &tokens,
    }
    .print();
    Ok(())
}

/// Returns the most probable token; `logits` has shape [1, vocabulary].
fn best(logits: &Tensor) -> Result<u32> {
    logits.squeeze(0)?.argmax(0)?.to_scalar()
}

fn config() -> Config {
    Config {
        hidden_size: SMOLLM2_135M.n_embd,
        intermediate_size: SMOLLM2_135M.n_inner,
        vocab_size: SMOLLM2_135M.n_vocab,
        num_hidden_layers: SMOLLM2_135M.n_layer,
        num_attention_heads: SMOLLM2_135M.n_head,
        num_key_value_heads: SMOLLM2_135M.n_kv_head,
        use_flash_attn: false,
        rms_norm_eps: 1e-5,
        rope_theta: 100_000.0,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: 2048,
        tie_word_embeddings: true,
    }
}

/// Returns the tensors under their checkpoint names. Matrices are normally distributed
/// with a standard deviation of 0.02; norm weights are 1.
fn random_weights(device: &Device) -> Result<HashMap<String, Tensor>> {
    let tensors = SMOLLM2_135M.tensors().into_iter().map(|(name, shape)| {
        let is_norm = shape.len() == 1;
        let value = if is_norm {
            Tensor::ones(shape, DType::F32, device)
        } else {
            Tensor::randn(0f32, 0.02, shape, device)
        };
        Ok((name, value?.to_dtype(DType::F16)?))
    });
    tensors.collect()
}
