//! GPT-2 put together from the naive twins of the kernels: an independent
//! computation on weights as the GPU holds them.

use wgpt::checkpoint::Checkpoint;
use wgpt::kernels::Activation;
use wgpt::model::Gpt2Config;
use wgpt::reference as naive;
use wgpt::reference::activation as act;
use wgpt::tensor::DType;

/// A checkpoint in host memory with its config.
pub struct ReferenceModel<'a> {
    config: &'a Gpt2Config,
    checkpoint: &'a Checkpoint,
    dtype: DType,
    kv_dtype: DType,
}

fn rounded(values: &mut [f32], dtype: DType) {
    if dtype == DType::F16 {
        values.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
    }
}

impl<'a> ReferenceModel<'a> {
    /// Matrices are rounded to `dtype`, as loading does; keys and values to
    /// `kv_dtype`, as the cache does.
    pub fn new(config: &'a Gpt2Config, checkpoint: &'a Checkpoint, dtype: DType, kv_dtype: DType) -> Self {
        ReferenceModel { config, checkpoint, dtype, kv_dtype }
    }

    /// A tensor in file order.
    fn tensor(&self, name: &str) -> Vec<f32> {
        let info = self
            .checkpoint
            .get(name)
            .or_else(|| self.checkpoint.get(&format!("transformer.{name}")))
            .unwrap_or_else(|| panic!("{name} is missing"));
        let (rows, columns) = match info.shape[..] {
            [n] => (1, n),
            [rows, columns] => (rows, columns),
            _ => panic!("{name} has shape {:?}", info.shape),
        };
        let mut out = vec![0.0; rows * columns];
        self.checkpoint.reader().read_block(info, 0..rows, 0..columns, &mut out).unwrap();
        if info.shape.len() == 2 {
            rounded(&mut out, self.dtype);
        }
        out
    }

    /// A Conv1D matrix as `[out, in]`.
    fn conv1d(&self, name: &str, n_in: usize, n_out: usize) -> Vec<f32> {
        let file = self.tensor(name);
        (0..n_out).flat_map(|o| (0..n_in).map(move |i| (i, o))).map(|(i, o)| file[i * n_out + o]).collect()
    }

    fn linear(
        &self,
        x: &[f32],
        name: &str,
        n_in: usize,
        n_out: usize,
        f: impl Fn(f64) -> f64 + Copy,
    ) -> Vec<f32> {
        let weights = self.conv1d(&format!("{name}.weight"), n_in, n_out);
        naive::gemm(x, &weights, Some(&self.tensor(&format!("{name}.bias"))), n_in, f)
    }

    fn norm(&self, x: &[f32], name: &str) -> Vec<f32> {
        let (weight, bias) = (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        naive::layer_norm(x, &weight, &bias, self.config.layer_norm_epsilon)
    }

    fn attention(&self, qkv: &[f32], layer: usize) -> Vec<f32> {
        let (n_embd, head_dim) = (self.config.n_embd, self.config.head_dim());
        let n_tokens = qkv.len() / (3 * n_embd);
        let mut out = vec![0.0; n_tokens * n_embd];
        for head in 0..self.config.n_head {
            let part = |part: usize| -> Vec<f32> {
                let at = part * n_embd + head * head_dim;
                qkv.chunks(3 * n_embd).flat_map(|row| row[at..at + head_dim].to_vec()).collect()
            };
            let scale = self.config.attention_scale(layer);
            let (mut k, mut v) = (part(1), part(2));
            rounded(&mut k, self.kv_dtype);
            rounded(&mut v, self.kv_dtype);
            let one_head =
                naive::Attention { n_head: 1, n_kv_head: 1, head_dim, scale, soft_cap: None, window: None };
            let result = naive::attention_prefill(&one_head, &part(0), &k, &v, 0);
            for (row, values) in result.chunks(head_dim).enumerate() {
                out[row * n_embd + head * head_dim..][..head_dim].copy_from_slice(values);
            }
        }
        out
    }

    fn activation(&self) -> fn(f64) -> f64 {
        match self.config.activation {
            Activation::None => |x| x,
            Activation::GeluTanh => act::gelu_tanh,
            Activation::Gelu => act::gelu,
            Activation::QuickGelu => act::quick_gelu,
            Activation::Relu => act::relu,
            Activation::Silu => act::silu,
            Activation::Tanh => f64::tanh,
        }
    }

    /// Logits of all tokens, `[n_tokens, vocab_size]`.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let (n, inner) = (self.config.n_embd, self.config.n_inner);
        let add = |x: &mut Vec<f32>, y: Vec<f32>| x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        let wte = self.tensor("wte.weight");
        let mut x = naive::embedding(tokens, 0, &wte, &self.tensor("wpe.weight"), n);
        for layer in 0..self.config.n_layer {
            let name = |part: &str| format!("h.{layer}.{part}");
            let normed = self.norm(&x, &name("ln_1"));
            let qkv = self.linear(&normed, &name("attn.c_attn"), n, 3 * n, |x| x);
            let heads = self.attention(&qkv, layer);
            add(&mut x, self.linear(&heads, &name("attn.c_proj"), n, n, |x| x));
            let normed = self.norm(&x, &name("ln_2"));
            let hidden = self.linear(&normed, &name("mlp.c_fc"), n, inner, self.activation());
            add(&mut x, self.linear(&hidden, &name("mlp.c_proj"), inner, n, |x| x));
        }
        let normed = self.norm(&x, "ln_f");
        let head = if self.config.tie_word_embeddings { wte } else { self.tensor("lm_head.weight") };
        naive::gemm(&normed, &head, None, n, |x| x)
    }
}
