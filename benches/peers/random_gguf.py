#!/usr/bin/env python3
"""Writes a GGUF file of GPT-2 124M's shape with random weights, for llama.cpp.

Matrices are f16, biases and norms f32, the head shares the token embedding, as in
`wgpt bench model --random gpt2`. Speed does not depend on the values.

Usage: random_gguf.py OUT.gguf          (needs: pip install gguf numpy)
"""

import sys

import gguf
import numpy as np

N_LAYER, N_EMBD, N_HEAD, N_VOCAB, N_CTX = 12, 768, 12, 50257, 1024


def main(path):
    rng = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_name("gpt2-random")
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(4 * N_EMBD)
    writer.add_block_count(N_LAYER)
    writer.add_head_count(N_HEAD)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(N_VOCAB)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    # llama-bench feeds token ids; no text is needed.
    writer.add_tokenizer_model("no_vocab")

    def matrix(name, rows, columns):
        values = rng.standard_normal((rows, columns), dtype=np.float32) * 0.02
        writer.add_tensor(name, values.astype(np.float16))

    def vector(name, n, value):
        writer.add_tensor(name, np.full(n, value, dtype=np.float32))

    matrix("token_embd.weight", N_VOCAB, N_EMBD)
    # llama.cpp wants position embeddings in f32.
    positions = rng.standard_normal((N_CTX, N_EMBD), dtype=np.float32) * 0.02
    writer.add_tensor("position_embd.weight", positions)
    for layer in range(N_LAYER):
        for norm in ("attn_norm", "ffn_norm"):
            vector(f"blk.{layer}.{norm}.weight", N_EMBD, 1.0)
            vector(f"blk.{layer}.{norm}.bias", N_EMBD, 0.0)
        for name, rows, columns in (
            ("attn_qkv", 3 * N_EMBD, N_EMBD),
            ("attn_output", N_EMBD, N_EMBD),
            ("ffn_up", 4 * N_EMBD, N_EMBD),
            ("ffn_down", N_EMBD, 4 * N_EMBD),
        ):
            matrix(f"blk.{layer}.{name}.weight", rows, columns)
            vector(f"blk.{layer}.{name}.bias", rows, 0.0)
    vector("output_norm.weight", N_EMBD, 1.0)
    vector("output_norm.bias", N_EMBD, 0.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
