#!/usr/bin/env python3
"""Writes a GGUF file of a published shape with random weights, for llama.cpp.

Matrices are f16, biases and norms are f32, and the head shares the token embedding, as
in `wgpt bench model --random SHAPE`. Speed does not depend on the values.

Usage: random_gguf.py OUT.gguf [gpt2 | smollm2-135m]     (needs: pip install gguf numpy)
"""

import sys

import gguf
import numpy as np



class Writer:
    """GGUF with random matrices and constant vectors."""

    def __init__(self, path, arch):
        self.rng = np.random.default_rng(1)
        self.gguf = gguf.GGUFWriter(path, arch)
        self.gguf.add_name(f"{arch}-random")
        self.gguf.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        # llama-bench feeds token ids; no text is needed.
        self.gguf.add_tokenizer_model("no_vocab")

    def values(self, rows, columns):
        return self.rng.standard_normal((rows, columns), dtype=np.float32) * 0.02

    def matrix(self, name, rows, columns):
        self.gguf.add_tensor(name, self.values(rows, columns).astype(np.float16))

    def vector(self, name, n, value):
        self.gguf.add_tensor(name, np.full(n, value, dtype=np.float32))

    def close(self):
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def gpt2(path):
    n_layer, n_embd, n_head, n_vocab, n_ctx = 12, 768, 12, 50257, 1024
    out = Writer(path, "gpt2")
    out.gguf.add_context_length(n_ctx)
    out.gguf.add_embedding_length(n_embd)
    out.gguf.add_feed_forward_length(4 * n_embd)
    out.gguf.add_block_count(n_layer)
    out.gguf.add_head_count(n_head)
    out.gguf.add_layer_norm_eps(1e-5)
    out.gguf.add_vocab_size(n_vocab)
    out.matrix("token_embd.weight", n_vocab, n_embd)
    # llama.cpp wants position embeddings in f32.
    out.gguf.add_tensor("position_embd.weight", out.values(n_ctx, n_embd))
    for layer in range(n_layer):
        for norm in ("attn_norm", "ffn_norm"):
            out.vector(f"blk.{layer}.{norm}.weight", n_embd, 1.0)
            out.vector(f"blk.{layer}.{norm}.bias", n_embd, 0.0)
        for name, rows, columns in (
            ("attn_qkv", 3 * n_embd, n_embd),
            ("attn_output", n_embd, n_embd),
            ("ffn_up", 4 * n_embd, n_embd),
            ("ffn_down", n_embd, 4 * n_embd),
        ):
            out.matrix(f"blk.{layer}.{name}.weight", rows, columns)
            out.vector(f"blk.{layer}.{name}.bias", rows, 0.0)
    out.vector("output_norm.weight", n_embd, 1.0)
    out.vector("output_norm.bias", n_embd, 0.0)
    out.close()


def smollm2_135m(path):
    n_layer, n_embd, n_inner, n_head, n_kv_head, head_dim, n_vocab = 30, 576, 1536, 9, 3, 64, 49152
    out = Writer(path, "llama")
    out.gguf.add_context_length(8192)
    out.gguf.add_embedding_length(n_embd)
    out.gguf.add_feed_forward_length(n_inner)
    out.gguf.add_block_count(n_layer)
    out.gguf.add_head_count(n_head)
    out.gguf.add_head_count_kv(n_kv_head)
    out.gguf.add_rope_dimension_count(head_dim)
    out.gguf.add_rope_freq_base(100_000.0)
    out.gguf.add_layer_norm_rms_eps(1e-5)
    out.gguf.add_vocab_size(n_vocab)
    out.matrix("token_embd.weight", n_vocab, n_embd)
    for layer in range(n_layer):
        for norm in ("attn_norm", "ffn_norm"):
            out.vector(f"blk.{layer}.{norm}.weight", n_embd, 1.0)
        for name, rows, columns in (
            ("attn_q", n_head * head_dim, n_embd),
            ("attn_k", n_kv_head * head_dim, n_embd),
            ("attn_v", n_kv_head * head_dim, n_embd),
            ("attn_output", n_embd, n_head * head_dim),
            ("ffn_gate", n_inner, n_embd),
            ("ffn_up", n_inner, n_embd),
            ("ffn_down", n_embd, n_inner),
        ):
            out.matrix(f"blk.{layer}.{name}.weight", rows, columns)
    out.vector("output_norm.weight", n_embd, 1.0)
    out.close()


SHAPES = {"gpt2": gpt2, "smollm2-135m": smollm2_135m}

if __name__ == "__main__":
    arguments = sys.argv[1:]
    shape = arguments[1] if len(arguments) == 2 else "gpt2"
    if len(arguments) not in (1, 2) or shape not in SHAPES:
        sys.exit(__doc__)
    SHAPES[shape](arguments[0])
