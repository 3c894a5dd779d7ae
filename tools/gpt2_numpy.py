"""GPT-2 in numpy float64, its files and its perplexity: an independent check for export_golden.py.

Written from the paper's formulas and the meaning of the config fields; shares no code with transformers.
"""
import json
import math
import struct
from pathlib import Path

import numpy as np

DEFAULTS = dict(activation_function="gelu_new", n_inner=None, layer_norm_epsilon=1e-5, scale_attn_weights=True,
                scale_attn_by_inverse_layer_idx=False, tie_word_embeddings=True)

ERF = np.frompyfunc(math.erf, 1, 1)
ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1 + ERF(x / math.sqrt(2)).astype(np.float64)),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
    "gelu_pytorch_tanh": lambda x: ACTIVATIONS["gelu_new"](x),
    # transformers truncates sqrt(2/pi) here, which is visible in float64
    "gelu_fast": lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x * x * x))),
    "quick_gelu": lambda x: x / (1 + np.exp(-1.702 * x)),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def layer_norm(x, t, name, epsilon):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * t[name + ".weight"] + t[name + ".bias"]


def attention(c, t, name, x, layer):
    """Causal self-attention of one row; x [n, n_embd]."""
    n, n_embd = x.shape
    head_dim = n_embd // c["n_head"]
    qkv = x @ t[name + ".c_attn.weight"] + t[name + ".c_attn.bias"]
    q, k, v = (z.reshape(n, c["n_head"], head_dim).transpose(1, 0, 2) for z in np.split(qkv, 3, -1))
    score = q @ k.transpose(0, 2, 1)
    if c["scale_attn_weights"]:
        score /= math.sqrt(head_dim)
    if c["scale_attn_by_inverse_layer_idx"]:
        score /= layer + 1
    score = np.where(np.tri(n, dtype=bool), score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    mixed = (weight @ v).transpose(1, 0, 2).reshape(n, n_embd)
    return mixed @ t[name + ".c_proj.weight"] + t[name + ".c_proj.bias"]


def forward(config, t, ids):
    """Logits [n, vocab_size] in float64 of one row of ids; t: name without prefix -> float64 array."""
    c = {**DEFAULTS, **config}
    epsilon = c["layer_norm_epsilon"]
    x = t["wte.weight"][ids] + t["wpe.weight"][: len(ids)]
    for layer in range(c["n_layer"]):
        h = f"h.{layer}"
        x = x + attention(c, t, h + ".attn", layer_norm(x, t, h + ".ln_1", epsilon), layer)
        y = layer_norm(x, t, h + ".ln_2", epsilon) @ t[h + ".mlp.c_fc.weight"] + t[h + ".mlp.c_fc.bias"]
        x = x + ACTIVATIONS[c["activation_function"]](y) @ t[h + ".mlp.c_proj.weight"] + t[h + ".mlp.c_proj.bias"]
    head = t["wte.weight"] if c["tie_word_embeddings"] else t["lm_head.weight"]
    return layer_norm(x, t, "ln_f", epsilon) @ head.T


def read_safetensors(path):
    """Name -> array, bf16 widened to float32. numpy has no bf16, so safetensors.numpy cannot be used."""
    data = Path(path).read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
    out = {}
    for name, e in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + o for o in e["data_offsets"])
            a = np.frombuffer(data[begin:end], kinds[e["dtype"]])
            if e["dtype"] == "BF16":
                a = (a.astype(np.uint32) << 16).view(np.float32)
            out[name] = a.reshape(e["shape"])
    return out


def read_model(folder):
    """config.json and the tensors in float64, without the prefix `transformer.`."""
    files = sorted(folder.glob("model*.safetensors"))
    t = {k.removeprefix("transformer."): v.astype(np.float64) for f in files for k, v in read_safetensors(f).items()}
    return json.loads((folder / "config.json").read_text()), t


def perplexity(logits_of, ids, window, stride):
    """Mean NLL and the number of scored tokens by the hf protocol; logits_of: ids -> float64 [n, vocab]."""
    total, count, done = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + window, len(ids))
        first = max(done, begin + 1)  # the window's first token has no context
        logits = logits_of(ids[begin:end])[first - begin - 1 : end - begin - 1]
        peak = logits.max(-1)
        nll = peak + np.log(np.exp(logits - peak[:, None]).sum(-1)) - logits[np.arange(end - first), ids[first:end]]
        total, count, done = total + float(nll.sum()), count + end - first, end
        if end == len(ids):
            break
    return total / count, count
