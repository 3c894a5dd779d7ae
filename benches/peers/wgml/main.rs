//! Decode speed of wgml's GPT-2: `peer-wgml MODEL.gguf [N_GEN]`.
//!
//! The loop is that of wgml's own example `gpt2`, without text, sampling and timestamps.

#[path = "../report.rs"]
mod report;

use std::time::Instant;

use report::Report;
use wgcore::kernel::KernelInvocationQueue;
use wgml::gguf::{Gguf, GgufMetadataValue, GgufMetadataValueArray};
use wgml::models::gpt2::cpu::Gpt2Model;
use wgml::models::gpt2::transformer::{Gpt2, Gpt2State, Gpt2Weights};
use wgml::ops::BatchedMultiqueryAttentionParams;

/// Tokens before the timed ones. wgml takes a prompt token by token, so they warm up as well.
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
    // wgcore's own `GpuInstance` asks for bindings of 1 GB, which not every adapter has.
    let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
    let (device, queue) = adapter.request_device(&descriptor, None).await.expect("no device");

    let start = Instant::now();
    let bytes = std::fs::read(path).expect("cannot read the model");
    let mut gguf = Gguf::from_bytes(&bytes).expect("not a GGUF file");
    // wgml takes the size of the vocabulary from the tokenizer, which a random model lacks.
    let n_vocab = gguf.tensors["token_embd.weight"].dimensions()[1] as usize;
    let names = GgufMetadataValue::Array(GgufMetadataValueArray::U8(vec![0; n_vocab]));
    gguf.metadata.entry("tokenizer.ggml.tokens".into()).or_insert(names);
    let (model, config) = Gpt2Model::from_gguf(&gguf);
    let weights = Gpt2Weights::from_ram(&device, &model);
    let gpt2 = Gpt2::new(&device).expect("a shader does not compile");
    let state = Gpt2State::new(&device, &config);
    drop((gguf, bytes, model));
    let load_seconds = start.elapsed().as_secs_f64();

    let mut step_seconds = Vec::new();
    let mut tokens = Vec::new();
    let mut token = PROMPT[0];
    for pos in 0..PROMPT.len() + n_gen {
        let start = Instant::now();
        let attention = BatchedMultiqueryAttentionParams {
            seq_len: config.n_seq as u32,
            kv_dim: config.n_embd as u32,
            kv_mul: 1,
            n_heads: config.n_head as u32,
            head_size: (config.n_embd / config.n_head) as u32,
            pos: pos as u32,
        };
        queue.write_buffer(state.attn_params().buffer(), 0, bytemuck::bytes_of(&attention));
        let mut kernels = KernelInvocationQueue::new(&device);
        kernels.compute_pass("decode", false);
        gpt2.queue(&mut kernels, &state, &weights, &config, token, pos as u32);
        let mut encoder = device.create_command_encoder(&Default::default());
        kernels.encode(&mut encoder, None);
        state.logits_readback().copy_from(&mut encoder, state.logits());
        queue.submit(Some(encoder.finish()));
        let logits = state.logits_readback().read(&device).await.expect("no logits");
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
        model: &format!("GPT-2: {} layers, {} wide, vocabulary {n_vocab}", config.n_layer, config.n_embd),
        dtype: "f32",
        n_depth: PROMPT.len(),
        load_seconds,
        step_seconds: &step_seconds,
        tokens: &tokens,
    }
    .print();
}
