//! Speed of candle's Llama on the CPU with SmolLM2-135M's shape and random f16 weights:
//! `peer-candle [N_PROMPT] [N_GEN]`.
//!
//! The loop is that of candle's own example `llama`, without text and sampling.

#[path = "../report.rs"]
mod report;

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama};
use report::Report;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |n| n.parse().expect("arguments are numbers"));
    let (n_prompt, n_gen): (usize, usize) = (number(8), number(12));

    let device = Device::Cpu;
    let config = config();
    let tensors = random_weights(&config, &device)?;
    let start = Instant::now();
    let model = Llama::load(VarBuilder::from_tensors(tensors, DType::F16, &device), &config)?;
    let load_seconds = start.elapsed().as_secs_f64();

    // A prompt of two tokens, so that nothing of what is timed runs for the first time.
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
        model: "Llama smollm2-135m: 30 layers, 576 wide, vocabulary 49152",
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

/// The most probable token; `logits` [1, vocabulary].
fn best(logits: &Tensor) -> Result<u32> {
    logits.squeeze(0)?.argmax(0)?.to_scalar()
}

fn config() -> Config {
    Config {
        hidden_size: 576,
        intermediate_size: 1536,
        vocab_size: 49152,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
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

/// Tensors as a checkpoint names them; matrices with a deviation of 0.02.
fn random_weights(config: &Config, device: &Device) -> Result<HashMap<String, Tensor>> {
    let (n_embd, n_inner) = (config.hidden_size, config.intermediate_size);
    let kv = n_embd / config.num_attention_heads * config.num_key_value_heads;
    let matrix = |rows, columns| Tensor::randn(0f32, 0.02, (rows, columns), device)?.to_dtype(DType::F16);
    let ones = || Tensor::ones(n_embd, DType::F16, device);
    let mut tensors = HashMap::from([
        ("model.embed_tokens.weight".to_owned(), matrix(config.vocab_size, n_embd)?),
        ("model.norm.weight".to_owned(), ones()?),
    ]);
    for layer in 0..config.num_hidden_layers {
        for (name, rows, columns) in [
            ("self_attn.q_proj", n_embd, n_embd),
            ("self_attn.k_proj", kv, n_embd),
            ("self_attn.v_proj", kv, n_embd),
            ("self_attn.o_proj", n_embd, n_embd),
            ("mlp.gate_proj", n_inner, n_embd),
            ("mlp.up_proj", n_inner, n_embd),
            ("mlp.down_proj", n_embd, n_inner),
        ] {
            tensors.insert(format!("model.layers.{layer}.{name}.weight"), matrix(rows, columns)?);
        }
        for name in ["input_layernorm", "post_attention_layernorm"] {
            tensors.insert(format!("model.layers.{layer}.{name}.weight"), ones()?);
        }
    }
    Ok(tensors)
}
