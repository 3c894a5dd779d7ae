//! Measures the decode speed of inferaived's Llama (named MiniCPM5 there) with random
//! weights: `peer-inferaived [SHAPE] [N_GEN] [no-subgroups]`.

#[path = "../llama.rs"]
mod llama;
#[path = "../report.rs"]
mod report;

use std::pin::pin;
use std::time::Instant;

use futures::StreamExt;
use futures::executor::block_on;
use half::bf16;
use inferaived::language_model::{MiniCPM5Config, MiniCPM5GpuModel};
use inferaived::sampling::SamplingParams;
use llama::{SMOLLM2_135M, Shape};
use report::Report;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use wgpu::Features;

/// Prompt, prefilled in one step. The first decode step after it is not timed.
const PROMPT: [u32; 8] = [464, 3290, 318, 257, 845, 922, 1545, 11];

const SHAPES: [Shape; 2] = [
    // A Llama whose matrices have as many elements as those of GPT-2 124M, in each layer
    // and in the head: 3 * 768 * 2048 = 2 * 768 * 3072. It has no biases and no position
    // embeddings.
    Shape {
        name: "gpt2-sized",
        n_layer: 12,
        n_embd: 768,
        n_head: 12,
        n_kv_head: 12,
        n_inner: 2048,
        n_vocab: 50257,
    },
    SMOLLM2_135M,
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or(SHAPES[0].name, String::as_str);
    let shape = SHAPES.iter().find(|shape| shape.name == name).expect("SHAPE is gpt2-sized or smollm2-135m");
    let n_gen: usize = args.get(1).map_or(12, |n| n.parse().expect("N_GEN is a number"));
    let subgroups = args.get(2).is_none_or(|option| option != "no-subgroups");
    block_on(run(shape, n_gen, subgroups));
}

async fn run(shape: &Shape, n_gen: usize, subgroups: bool) {
    let instance = wgpu::Instance::default();
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        ..Default::default()
    };
    let adapter = instance.request_adapter(&options).await.expect("no adapter");
    // The features that inferaived's own example `bench_decode` requests, as far as the
    // adapter has them.
    let mut features = Features::SHADER_F16 | Features::SUBGROUP_BARRIER | Features::SHADER_FLOAT32_ATOMIC;
    if subgroups {
        features |= Features::SUBGROUP;
    }
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & features,
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = adapter.request_device(&descriptor).await.expect("no device");

    let bytes = random_weights(shape);
    let start = Instant::now();
    let tensors = SafeTensors::deserialize(&bytes).expect("the weights are well-formed");
    let model = MiniCPM5GpuModel::new(&device, &queue, &tensors, &config(shape));
    let mut session = model.new_session(&device, &queue, PROMPT.len() + n_gen + 2);
    let load_seconds = start.elapsed().as_secs_f64();

    let params = SamplingParams::default();
    let first = session.step(&device, &queue, &PROMPT, &params).await;
    let mut step_seconds = Vec::new();
    let mut tokens = Vec::new();
    {
        let first = [first.id];
        let mut stream = pin!(session.generate(&device, &queue, &first, &params, 1 + n_gen, &[]));
        stream.next().await.expect("a token");
        for _ in 0..n_gen {
            let start = Instant::now();
            let token = stream.next().await.expect("a token");
            step_seconds.push(start.elapsed().as_secs_f64());
            tokens.push(token.id);
        }
    }

    let subgroups = if device.features().contains(Features::SUBGROUP) { "subgroups" } else { "no subgroups" };
    Report {
        engine: "inferaived 0.1.0 (wgpu 29)",
        adapter: &adapter.get_info().name,
        model: &format!("{}; {subgroups}", shape.describe()),
        dtype: "bf16",
        n_depth: PROMPT.len() + 1,
        load_seconds,
        prompt_seconds: None,
        step_seconds: &step_seconds,
        tokens: &tokens,
    }
    .print();
}

fn config(shape: &Shape) -> MiniCPM5Config {
    MiniCPM5Config {
        hidden_size: shape.n_embd,
        intermediate_size: shape.n_inner,
        num_hidden_layers: shape.n_layer,
        num_attention_heads: shape.n_head,
        num_key_value_heads: shape.n_kv_head,
        head_dim: shape.n_embd / shape.n_head,
        rms_norm_eps: 1e-5,
        hidden_act: "silu".into(),
        max_position_embeddings: 1024,
        rope_theta: 10_000.0,
        vocab_size: shape.n_vocab,
        tie_word_embeddings: true,
        use_cache: true,
        initializer_range: 0.02,
        model_type: "llama".into(),
        torch_dtype: "bfloat16".into(),
        transformers_version: String::new(),
        bos_token_id: 1,
        eos_token_id: vec![2],
        pad_token_id: 2,
        architectures: vec!["LlamaForCausalLM".into()],
    }
}

/// Returns a checkpoint in the format of the file that inferaived reads. Matrices are
/// uniform in +/-0.035 (a standard deviation of 0.02); norm weights are 1.
fn random_weights(shape: &Shape) -> Vec<u8> {
    // xorshift64
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shape
        .tensors()
        .into_iter()
        .map(|(name, shape)| {
            let is_norm = shape.len() == 1;
            let mut value = || if is_norm { 1.0 } else { random() * 0.07 };
            let data =
                (0..shape.iter().product()).flat_map(|_| bf16::from_f32(value()).to_le_bytes()).collect();
            (name, shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        (name, TensorView::new(Dtype::BF16, shape.clone(), data).expect("sizes agree"))
    });
    serialize(views, None).expect("the weights are well-formed")
}
