//! Measures the decode speed of wgml's GPT-2 or Llama; the file's architecture decides
//! which: `peer-wgml MODEL.gguf [N_GEN]`.
//!
//! The loop follows wgml's own examples `gpt2` and `llama2`, without text, sampling and
//! timestamps.

mod model;
#[path = "../report.rs"]
mod report;

use std::time::Instant;

use model::Model;
use report::Report;
use wgml::gguf::{Gguf, GgufMetadataValue, GgufMetadataValueArray};

/// Tokens before the timed ones. wgml evaluates a prompt token by token, so the prompt
/// also warms up decoding.
const PROMPT: [u32; 8] = [464, 3290, 318, 257, 845, 922, 1545, 11];

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("usage: peer-wgml MODEL.gguf [N_GEN]");
    let n_gen: usize = args.next().map_or(12, |n| n.parse().expect("N_GEN is a number"));
    pollster::block_on(run(&path, n_gen));
}

async fn run(path: &str, n_gen: usize) {
    let instance = wgpu::Instance::default();
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    let adapter = instance.request_adapter(&options).await.expect("no adapter");
    // wgcore's own `GpuInstance` requests bindings of 1 GB, which some adapters lack.
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let (device, queue) = adapter.request_device(&descriptor, None).await.expect("no device");

    let start = Instant::now();
    let bytes = std::fs::read(path).expect("cannot read the model");
    let mut gguf = Gguf::from_bytes(&bytes).expect("not a GGUF file");
    // wgml reads the vocabulary size from the tokenizer, which a random model lacks.
    let n_vocab = gguf.tensors["token_embd.weight"].dimensions()[1] as usize;
    let names = GgufMetadataValue::Array(GgufMetadataValueArray::U8(vec![0; n_vocab]));
    gguf.metadata.entry("tokenizer.ggml.tokens".into()).or_insert(names);
    let model = Model::load(&device, &gguf);
    drop((gguf, bytes));
    let load_seconds = start.elapsed().as_secs_f64();

    let mut step_seconds = Vec::new();
    let mut tokens = Vec::new();
    let mut token = PROMPT[0];
    for pos in 0..PROMPT.len() + n_gen {
        let start = Instant::now();
        let encoder = model.encode(&device, &queue, token, pos as u32);
        queue.submit(Some(encoder.finish()));
        let logits = model.logits_readback().read(&device).await.expect("no logits");
        let best =
            (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("no vocabulary") as u32;
        token = PROMPT.get(pos + 1).copied().unwrap_or(best);
        if pos >= PROMPT.len() {
            step_seconds.push(start.elapsed().as_secs_f64());
            tokens.push(best);
        }
    }

    Report {
        engine: "wgml 0.2.0 (wgcore 0.2.2, wgpu 23)",
        adapter: &adapter.get_info().name,
        model: &format!("{}, vocabulary {n_vocab}", model.describe()),
        dtype: "f32",
        n_depth: PROMPT.len(),
        load_seconds,
        prompt_seconds: None,
        step_seconds: &step_seconds,
        tokens: &tokens,
    }
    .print();
}
