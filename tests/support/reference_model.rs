//! A decoder built from the naive twins of the kernels: an independent computation on the
//! weights in file order, rounded as on the GPU.

use wgpt::DType;
use wgpt::internals::checkpoint::Checkpoint;
use wgpt::internals::kernels::{Activation, NormForm};
use wgpt::internals::model::Decoder;
use wgpt::internals::model::decoder::{Attention, Linear, Qkv, Residual, Up};
use wgpt::internals::model::rope::{Pairing, Rope};
use wgpt::internals::model::spec::HeadSources;
use wgpt::internals::reference as naive;
use wgpt::internals::reference::activation as act;

/// A checkpoint in host memory with its config.
pub struct ReferenceModel<'a> {
    config: &'a Decoder,
    checkpoint: &'a Checkpoint,
    dtype: DType,
    kv_dtype: DType,
}

fn rounded(values: &mut [f32], dtype: DType) {
    if dtype == DType::F16 {
        values.iter_mut().for_each(|x| *x = half::f16::from_f32(*x).to_f32());
    }
}

fn capped(values: Vec<f32>, cap: Option<f32>) -> Vec<f32> {
    let Some(cap) = cap.map(f64::from) else { return values };
    values.iter().map(|&x| (cap * (f64::from(x) / cap).tanh()) as f32).collect()
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

impl<'a> ReferenceModel<'a> {
    /// Creates a model. Matrices are rounded to `dtype`, as loading does; keys and values
    /// to `kv_dtype`, as the cache does.
    pub fn new(config: &'a Decoder, checkpoint: &'a Checkpoint, dtype: DType, kv_dtype: DType) -> Self {
        ReferenceModel { config, checkpoint, dtype, kv_dtype }
    }

    /// Returns a tensor in file order.
    fn tensor(&self, name: &str) -> Vec<f32> {
        let info = self
            .checkpoint
            .get(name)
            .or_else(|| self.checkpoint.get(&format!("{}{name}", self.config.prefix)))
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

    /// Multiplies rows of `n_in` by a matrix of a block, then applies `f`.
    fn linear(
        &self,
        x: &[f32],
        block: &str,
        linear: Linear,
        n_in: usize,
        f: impl Fn(f64) -> f64 + Copy,
    ) -> Vec<f32> {
        let name = |part: &str| format!("{block}{}.{part}", linear.name);
        let mut weights = self.tensor(&name("weight"));
        if linear.transposed {
            let n_out = weights.len() / n_in;
            let turned = (0..n_out).flat_map(|o| (0..n_in).map(move |i| i * n_out + o));
            weights = turned.map(|at| weights[at]).collect();
        }
        let bias = linear.bias.then(|| self.tensor(&name("bias")));
        naive::gemm(x, &weights, bias.as_deref(), n_in, f)
    }

    fn norm(&self, x: &[f32], name: &str) -> Vec<f32> {
        let norms = self.config.norms;
        let mut weight = self.tensor(&format!("{name}.weight"));
        if norms.plus_one {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        match norms.kind {
            NormForm::Layer => {
                naive::layer_norm(x, &weight, &self.tensor(&format!("{name}.bias")), norms.epsilon)
            }
            NormForm::Rms => naive::rms_norm(x, &weight, norms.epsilon),
        }
    }

    /// Returns rows of q, k and v, each `[n_tokens, its number of heads, head_dim]`.
    fn qkv(&self, x: &[f32], block: &str) -> [Vec<f32>; 3] {
        let (Attention { n_head, n_kv_head, head_dim, .. }, n) = (&self.config.attention, self.config.n_embd);
        match self.config.attention.qkv {
            Qkv::Separate(three) => three.map(|one| self.linear(x, block, one, n, |x| x)),
            Qkv::Fused(one, order) => {
                let all = self.linear(x, block, one, n, |x| x);
                let mut parts = [Vec::new(), Vec::new(), Vec::new()];
                for row in all.chunks((n_head + 2 * n_kv_head) * head_dim) {
                    for (i, head) in row.chunks(*head_dim).enumerate() {
                        let part = match order {
                            HeadSources::Interleaved => i % 3,
                            _ if i < *n_head => 0,
                            _ => 1 + usize::from(i >= n_head + n_kv_head),
                        };
                        parts[part].extend_from_slice(head);
                    }
                }
                parts
            }
        }
    }

    /// Rotates heads of rows, `[n_tokens, n_heads, head_dim]`, from position 0 on.
    fn rotate(&self, heads: &mut [f32], n_tokens: usize, rope: &Rope) {
        let head_dim = self.config.attention.head_dim;
        let table = rope.table(n_tokens, head_dim.next_multiple_of(8));
        let per_row = heads.len() / n_tokens;
        for (row, turns) in heads.chunks_mut(per_row).zip(table.chunks(head_dim.next_multiple_of(8))) {
            for head in row.chunks_mut(head_dim) {
                for i in 0..rope.n_rot / 2 {
                    let [a, b] = match rope.pairing {
                        Pairing::AsIs => [2 * i, 2 * i + 1],
                        Pairing::Halves { n_rot } => [i, i + n_rot / 2],
                    };
                    let [x, y, cos, sin] = [head[a], head[b], turns[2 * i], turns[2 * i + 1]].map(f64::from);
                    (head[a], head[b]) = ((x * cos - y * sin) as f32, (x * sin + y * cos) as f32);
                }
            }
        }
    }

    /// Computes the attention of the rows of a normed stream, with the output projection.
    fn attention(&self, normed: &[f32], block: &str, layer: usize) -> Vec<f32> {
        let Attention { n_head, n_kv_head, head_dim, soft_cap, qk_norm, ropes, layers, out, .. } =
            &self.config.attention;
        let n_tokens = normed.len() / self.config.n_embd;
        let [mut q, mut k, mut v] = self.qkv(normed, block);
        if let Some([of_q, of_k]) = qk_norm {
            q = self.norm(&q, &format!("{block}{of_q}"));
            k = self.norm(&k, &format!("{block}{of_k}"));
        }
        if let Some(rope) = ropes.get(layers[layer].rope) {
            self.rotate(&mut q, n_tokens, rope);
            self.rotate(&mut k, n_tokens, rope);
        }
        rounded(&mut k, self.kv_dtype);
        rounded(&mut v, self.kv_dtype);
        // From rows of heads to heads of positions.
        let by_head = |rows: &[f32]| -> Vec<f32> {
            let runs = (0..*n_kv_head).flat_map(|head| (0..n_tokens).map(move |row| row * n_kv_head + head));
            runs.flat_map(|run| rows[run * head_dim..][..*head_dim].to_vec()).collect()
        };
        let attention = naive::Attention {
            n_head: *n_head,
            n_kv_head: *n_kv_head,
            head_dim: *head_dim,
            scale: self.config.attention_scale(layer),
            soft_cap: *soft_cap,
            window: layers[layer].window,
        };
        let heads = naive::attention_prefill(&attention, &q, &by_head(&k), &by_head(&v), 0);
        self.linear(&heads, block, *out, n_head * head_dim, |x| x)
    }

    fn activation(&self) -> fn(f64) -> f64 {
        match self.config.mlp.activation {
            Activation::None => |x| x,
            Activation::GeluTanh => act::gelu_tanh,
            Activation::Gelu => act::gelu,
            Activation::QuickGelu => act::quick_gelu,
            Activation::Relu => act::relu,
            Activation::Silu => act::silu,
            Activation::Tanh => f64::tanh,
        }
    }

    fn mlp(&self, normed: &[f32], block: &str) -> Vec<f32> {
        let (n, n_inner, f) = (self.config.n_embd, self.config.mlp.n_inner, self.activation());
        let hidden = match self.config.mlp.up {
            Up::Plain(up) => self.linear(normed, block, up, n, f),
            Up::Gated([gate, up]) => {
                let [gate, up] = [gate, up].map(|linear| self.linear(normed, block, linear, n, |x| x));
                naive::gated(&gate, &up, f)
            }
            Up::GatedFused(both) => {
                let both = self.linear(normed, block, both, n, |x| x);
                let row = |row: &[f32]| naive::gated(&row[..n_inner], &row[n_inner..], f);
                both.chunks(2 * n_inner).flat_map(row).collect()
            }
        };
        self.linear(&hidden, block, self.config.mlp.down, n_inner, |x| x)
    }

    fn block(&self, x: &mut [f32], layer: usize) {
        let block = self.config.layer_prefix.replace("{}", &layer.to_string());
        let norm = |x: &[f32], name: &str| self.norm(x, &format!("{block}{name}"));
        match self.config.residual {
            Residual::Sequential { attention, mlp } => {
                add(x, &self.attention(&norm(x, attention), &block, layer));
                add(x, &self.mlp(&norm(x, mlp), &block));
            }
            Residual::Sandwich { attention, mlp } => {
                let branch = self.attention(&norm(x, attention[0]), &block, layer);
                add(x, &norm(&branch, attention[1]));
                let branch = self.mlp(&norm(x, mlp[0]), &block);
                add(x, &norm(&branch, mlp[1]));
            }
            Residual::Parallel { attention, mlp } => {
                let of_mlp = self.mlp(&norm(x, mlp.unwrap_or(attention)), &block);
                add(x, &self.attention(&norm(x, attention), &block, layer));
                add(x, &of_mlp);
            }
        }
    }

    /// Returns the logits of all tokens, `[n_tokens, vocab_size]`.
    pub fn logits(&self, tokens: &[u32]) -> Vec<f32> {
        let (n, embedding, head) = (self.config.n_embd, &self.config.embedding, &self.config.head);
        let wte = self.tensor(embedding.tokens);
        let wpe = embedding.positions.as_ref().map(|positions| {
            let rows = self.tensor(positions.name);
            rows[positions.skipped * n..].to_vec()
        });
        let mut x = naive::embedding(tokens, 0, &wte, wpe.as_deref(), embedding.scale, n);
        (0..self.config.n_layer).for_each(|layer| self.block(&mut x, layer));
        let normed = self.norm(&x, head.norm);
        let weights = if head.tied { wte } else { self.tensor(&format!("{}.weight", head.name)) };
        let bias = head.bias.then(|| self.tensor(&format!("{}.bias", head.name)));
        capped(naive::gemm(&normed, &weights, bias.as_deref(), n, |x| x), head.soft_cap)
    }
}
