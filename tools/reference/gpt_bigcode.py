"""GPTBigCode (Ben Allal et al. 2023, SantaCoder; Li et al. 2023, StarCoder): GPT-2 with one head of k and v."""
import numpy as np

from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear
from .case import Case

MODELS = ("gpt_bigcode",)


def split_qkv(c, qkv):
    """With multi_query all of q, then one k and one v; else q, k and v of head 0, then of head 1, ..."""
    head_dim = c["n_embd"] // c["n_head"]
    if c["multi_query"]:
        return (heads(z, n) for z, n in zip(np.split(qkv, [c["n_embd"], c["n_embd"] + head_dim], -1),
                                            (c["n_head"], 1, 1)))
    return np.split(heads(qkv, c["n_head"]), 3, -1)


def forward(c, t, ids):
    epsilon = c["layer_norm_epsilon"]
    x = t["transformer.wte.weight"][ids] + t["transformer.wpe.weight"][: len(ids)]
    for layer in range(c["n_layer"]):
        name = f"transformer.h.{layer}"
        qkv = linear(t, name + ".attn.c_attn", layer_norm(x, t, name + ".ln_1", epsilon), True)
        q, k, v = split_qkv(c, qkv)
        scale = q.shape[-1] ** -0.5 if c["scale_attn_weights"] else 1
        x = x + linear(t, name + ".attn.c_proj", attention(q, k, v, scale), True)
        y = linear(t, name + ".mlp.c_fc", layer_norm(x, t, name + ".ln_2", epsilon), True)
        x = x + linear(t, name + ".mlp.c_proj", ACTIVATIONS[c["activation_function"]](y), True)
    return layer_norm(x, t, "transformer.ln_f", epsilon) @ t["transformer.wte.weight"].T


SMALL = dict(n_positions=64, n_layer=2, bos_token_id=0, eos_token_id=0)
CASES = {
    "gpt_bigcode/multi-query": Case(
        "multi_query: one k and v head for 4 heads of head_dim 10, n_inner 4 n_embd, gelu_pytorch_tanh, tied",
        dict(**SMALL, vocab_size=151, n_embd=40, n_head=4, multi_query=True),
        deaf=dict(activation_function="gelu"), dtype="float16"),
    "gpt_bigcode/multi-head": Case(
        "multi_query false: rows of c_attn grouped by head, n_inner 52, head_dim 9, scale_attn_weights false",
        dict(**SMALL, vocab_size=149, n_embd=36, n_head=4, n_inner=52, multi_query=False, scale_attn_weights=False),
        deaf=dict(scale_attn_weights=True), dtype="float16"),
}
