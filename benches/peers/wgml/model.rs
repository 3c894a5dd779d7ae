//! wgml's two models with one interface.

use wgcore::kernel::KernelInvocationQueue;
use wgcore::tensor::GpuVector;
use wgml::gguf::{Gguf, GgufMetadataValue};
use wgml::models::gpt2::cpu::{Gpt2Model, Gpt2Params};
use wgml::models::gpt2::transformer::{Gpt2, Gpt2State, Gpt2Weights};
use wgml::models::llama2::cpu::{Llama2Config, TransformerWeights};
use wgml::models::llama2::{Llama2, Llama2State, Llama2Weights};
use wgml::ops::{BatchedMultiqueryAttentionParams, RoPEShape};
use wgpu::{CommandEncoder, Device, Queue};

/// A loaded model with its weights and state on the device.
pub enum Model {
    Gpt2 { kernels: Gpt2, weights: Gpt2Weights, state: Gpt2State, config: Gpt2Params },
    Llama { kernels: Llama2, weights: Llama2Weights, state: Llama2State, config: Llama2Config },
}

impl Model {
    /// Loads the model that `general.architecture` names.
    pub fn load(device: &Device, gguf: &Gguf) -> Self {
        match &gguf.metadata["general.architecture"] {
            GgufMetadataValue::String(name) if name == "gpt2" => {
                let (model, config) = Gpt2Model::from_gguf(gguf);
                Self::Gpt2 {
                    weights: Gpt2Weights::from_ram(device, &model),
                    kernels: Gpt2::new(device).expect("a shader does not compile"),
                    state: Gpt2State::new(device, &config),
                    config,
                }
            }
            GgufMetadataValue::String(name) if name == "llama" => {
                let config = Llama2Config::from_gguf(gguf);
                let model = TransformerWeights::from_gguf(&config, gguf);
                Self::Llama {
                    weights: Llama2Weights::from_ram(device, &model),
                    kernels: Llama2::new(device).expect("a shader does not compile"),
                    state: Llama2State::new(device, &config),
                    config,
                }
            }
            other => panic!("general.architecture is gpt2 or llama, not {other:?}"),
        }
    }

    /// Returns architecture, depth and width as text.
    pub fn describe(&self) -> String {
        match self {
            Self::Gpt2 { config, .. } => format!("GPT-2: {} layers, {} wide", config.n_layer, config.n_embd),
            Self::Llama { config, .. } => format!("Llama: {} layers, {} wide", config.n_layers, config.dim),
        }
    }

    /// Returns the buffer from which the host reads the logits of an encoded step.
    pub fn logits_readback(&self) -> &GpuVector<f32> {
        match self {
            Self::Gpt2 { state, .. } => state.logits_readback(),
            Self::Llama { state, .. } => state.logits_readback(),
        }
    }

    /// Encodes the evaluation of one token at position `pos`, including the copy of its
    /// logits to the readback buffer.
    pub fn encode(&self, device: &Device, queue: &Queue, token: u32, pos: u32) -> CommandEncoder {
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut invocations = KernelInvocationQueue::new(device);
        invocations.compute_pass("decode", false);
        let attention = self.attention(pos);
        match self {
            Self::Gpt2 { kernels, weights, state, config } => {
                queue.write_buffer(state.attn_params().buffer(), 0, bytemuck::bytes_of(&attention));
                kernels.queue(&mut invocations, state, weights, config, token, pos);
                invocations.encode(&mut encoder, None);
                state.logits_readback().copy_from(&mut encoder, state.logits());
            }
            Self::Llama { kernels, weights, state, config } => {
                let rope = RoPEShape { head_size: attention.head_size, kv_dim: attention.kv_dim, pos };
                queue.write_buffer(state.attn_params().buffer(), 0, bytemuck::bytes_of(&attention));
                queue.write_buffer(state.rope_shape().buffer(), 0, bytemuck::bytes_of(&rope));
                kernels.queue(&mut invocations, state, weights, config, pos);
                state.x.copy_from_view(&mut encoder, weights.token_embd.column(token));
                invocations.encode(&mut encoder, None);
                state.logits_readback().copy_from(&mut encoder, state.logits());
            }
        }
        encoder
    }

    fn attention(&self, pos: u32) -> BatchedMultiqueryAttentionParams {
        let (seq_len, n_embd, n_head, n_kv_head) = match self {
            Self::Gpt2 { config, .. } => (config.n_seq, config.n_embd, config.n_head, config.n_head),
            Self::Llama { config, .. } => (config.seq_len, config.dim, config.n_q_heads, config.n_kv_heads),
        };
        let head_size = n_embd / n_head;
        BatchedMultiqueryAttentionParams {
            seq_len: seq_len as u32,
            kv_dim: (head_size * n_kv_head) as u32,
            kv_mul: (n_head / n_kv_head) as u32,
            n_heads: n_head as u32,
            head_size: head_size as u32,
            pos,
        }
    }
}
