#!/usr/bin/env python3
"""Measures the speed of transformers' Llama on the CPU with SmolLM2-135M's shape and random f32 weights.

Prints one JSON object with the keys of report.rs.

Usage: transformers_llama.py [N_PROMPT] [N_GEN]
"""

import argparse
import json
import time

import torch
import transformers

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("n_prompt", nargs="?", type=int, default=8)
parser.add_argument("n_gen", nargs="?", type=int, default=12)
args = parser.parse_args()
n_prompt, n_gen = args.n_prompt, args.n_gen
config = transformers.LlamaConfig(
    hidden_size=576,
    intermediate_size=1536,
    vocab_size=49152,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    max_position_embeddings=2048,
    rope_theta=100_000.0,
    tie_word_embeddings=True,
)
start = time.perf_counter()
model = transformers.LlamaForCausalLM(config).eval()
load_seconds = time.perf_counter() - start


def forward(tokens, cache):
    """The most probable next token, and the cache; seconds until it is known."""
    start = time.perf_counter()
    out = model(torch.tensor([tokens]), past_key_values=cache, use_cache=True, num_logits_to_keep=1)
    token = int(out.logits[0, -1].argmax())
    return token, out.past_key_values, time.perf_counter() - start


step_seconds, tokens = [], []
with torch.inference_mode():
    # Warm up, so that no timed code runs for the first time.
    forward([1, 2], None)
    prompt = [7919 * i % config.vocab_size for i in range(n_prompt)]
    token, cache, prompt_seconds = forward(prompt, None)
    for _ in range(n_gen):
        token, cache, seconds = forward([token], cache)
        step_seconds.append(round(seconds, 4))
        tokens.append(token)

report = {
    "engine": f"transformers {transformers.__version__}, torch {torch.__version__}",
    "adapter": f"CPU, {torch.get_num_threads()} threads",
    "model": "Llama smollm2-135m: 30 layers, 576 wide, vocabulary 49152",
    "dtype": "f32",
    "n_depth": n_prompt,
    "n_gen": n_gen,
    "load_seconds": round(load_seconds, 2),
    "prompt_ts": round(n_prompt / prompt_seconds, 2),
    "avg_ts": round(n_gen / sum(step_seconds), 4),
    "max_ts": round(1 / min(step_seconds), 4),
    "step_seconds": step_seconds,
    "tokens": tokens,
}
print(json.dumps(report, indent=2))
