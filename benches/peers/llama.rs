//! Llama shapes for the drivers of engines that take a checkpoint's tensors. The drivers
//! fill them with random weights.

/// Sizes of a Llama with tied embeddings.
pub struct Shape {
    /// Name on the driver's command line and in its report.
    pub name: &'static str,
    /// Number of blocks.
    pub n_layer: usize,
    /// Width of the embeddings.
    pub n_embd: usize,
    /// Number of query heads.
    pub n_head: usize,
    /// Number of key heads, and of value heads.
    pub n_kv_head: usize,
    /// Width of the MLP.
    pub n_inner: usize,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
}

/// The shape of SmolLM2-135M.
pub const SMOLLM2_135M: Shape = Shape {
    name: "smollm2-135m",
    n_layer: 30,
    n_embd: 576,
    n_head: 9,
    n_kv_head: 3,
    n_inner: 1536,
    n_vocab: 49152,
};

impl Shape {
    /// Returns the name and the sizes as text for the report.
    pub fn describe(&self) -> String {
        let Shape { name, n_layer, n_embd, n_vocab, .. } = self;
        format!("Llama {name}: {n_layer} layers, {n_embd} wide, vocabulary {n_vocab}")
    }

    /// Returns the names, as on the Hugging Face hub, and shapes of the checkpoint's
    /// tensors. Matrices have two dimensions, norm weights have one.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let Shape { n_embd, n_inner, .. } = *self;
        let kv = n_embd / self.n_head * self.n_kv_head;
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.n_vocab, n_embd]),
            ("model.norm.weight".to_owned(), vec![n_embd]),
        ];
        for layer in 0..self.n_layer {
            for (name, rows, columns) in [
                ("self_attn.q_proj", n_embd, n_embd),
                ("self_attn.k_proj", kv, n_embd),
                ("self_attn.v_proj", kv, n_embd),
                ("self_attn.o_proj", n_embd, n_embd),
                ("mlp.gate_proj", n_inner, n_embd),
                ("mlp.up_proj", n_inner, n_embd),
                ("mlp.down_proj", n_embd, n_inner),
            ] {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![rows, columns]));
            }
            for name in ["input_layernorm", "post_attention_layernorm"] {
                tensors.push((format!("model.layers.{layer}.{name}.weight"), vec![n_embd]));
            }
        }
        tensors
    }
}
