"""Gemma (Gemma Team 2024, arXiv 2403.08295), Gemma 2 (arXiv 2408.00118, section 2) and Gemma 3 text (arXiv
2503.19786, section 2: q/k norm instead of soft caps, five local layers to one global, bases 10 k and 1 M; details and
names from the published modeling_gemma3.py of transformers 4.51)."""
import math

import numpy as np

from .blocks import attention, heads, linear, rms_norm, rope, rotate_half_split
from .case import Case
from .llama import gated_mlp

MODELS = ("gemma", "gemma2", "gemma3_text")


def norm(c, t, name, x):
    """The norm's weight is stored minus one."""
    return rms_norm(x, 1 + t[name + ".weight"], c["rms_norm_eps"])


def is_local(c, layer):
    """Whether a layer sees only a window: Gemma 2's even layers from 0 on, all but every sixth layer of Gemma 3."""
    if c["model_type"] == "gemma":
        return False
    if c["model_type"] == "gemma2":
        return layer % 2 == 0
    if "layer_types" in c:
        return c["layer_types"][layer] == "sliding_attention"
    return (layer + 1) % c["sliding_window_pattern"] != 0


def self_attention(c, t, name, x, table, window):
    bias = c["attention_bias"]
    q, k, v = (heads(linear(t, f"{name}.{part}_proj", x, bias), n) for part, n in
               [("q", c["num_attention_heads"]), ("k", c["num_key_value_heads"]), ("v", c["num_key_value_heads"])])
    if c["model_type"] == "gemma3_text" and c.get("qk_norm", True):
        q, k = norm(c, t, name + ".q_norm", q), norm(c, t, name + ".k_norm", k)
    q, k = rotate_half_split(q, table), rotate_half_split(k, table)
    scale = c.get("query_pre_attn_scalar", c["head_dim"]) ** -0.5
    mixed = attention(q, k, v, scale, window, c.get("attn_logit_softcapping"))
    return linear(t, name + ".o_proj", mixed, bias)


def forward(c, t, ids):
    # Gemma's config names the activation twice: hidden_act is a leftover that transformers ignores.
    activation = c.get("hidden_activation") or "gelu_pytorch_tanh"
    n, head_dim, sandwich = len(ids), c["head_dim"], c["model_type"] != "gemma"
    tables = {False: rope(n, head_dim, c["rope_theta"], c.get("rope_scaling"), c["max_position_embeddings"])}
    tables[True] = rope(n, head_dim, c["rope_local_base_freq"]) if "rope_local_base_freq" in c else tables[False]
    x = t["model.embed_tokens.weight"][ids] * math.sqrt(c["hidden_size"])
    for layer in range(c["num_hidden_layers"]):
        name, local = f"model.layers.{layer}", is_local(c, layer)
        y = norm(c, t, name + ".input_layernorm", x)
        y = self_attention(c, t, name + ".self_attn", y, tables[local], c["sliding_window"] if local else None)
        x = x + (norm(c, t, name + ".post_attention_layernorm", y) if sandwich else y)
        y = norm(c, t, name + (".pre_feedforward_layernorm" if sandwich else ".post_attention_layernorm"), x)
        y = gated_mlp(c, t, name + ".mlp", y, activation)
        x = x + (norm(c, t, name + ".post_feedforward_layernorm", y) if sandwich else y)
    head = t["model.embed_tokens.weight" if c.get("tie_word_embeddings", True) else "lm_head.weight"]
    logits, cap = norm(c, t, "model.norm", x) @ head.T, c.get("final_logit_softcapping")
    return cap * np.tanh(logits / cap) if cap else logits


def shapes(c):
    """Name -> shape of a Gemma 3, which transformers 4.46 cannot list."""
    hidden, inner, head_dim = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * head_dim, c["num_key_value_heads"] * head_dim
    out = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(c["num_hidden_layers"]):
        parts = {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
                 "self_attn.o_proj": (hidden, q), "self_attn.q_norm": (head_dim,), "self_attn.k_norm": (head_dim,),
                 "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
        parts.update({part: (hidden,) for part in ("input_layernorm", "post_attention_layernorm",
                                                   "pre_feedforward_layernorm", "post_feedforward_layernorm")})
        out.update({f"model.layers.{layer}.{part}.weight": shape for part, shape in parts.items()})
    return out


LACKING = ("transformers 4.46 has no Gemma 3; the model of 4.51.3, run once on these files in float64, agrees to "
           "1e-13")
SMALL = dict(max_position_embeddings=128, pad_token_id=0, eos_token_id=1, bos_token_id=2)
GEMMA3 = dict(
    architectures=["Gemma3ForCausalLM"], model_type="gemma3_text", hidden_activation="gelu_pytorch_tanh",
    attention_bias=False, attention_dropout=0.0, initializer_range=0.02, use_cache=True, cache_implementation="hybrid",
    attn_logit_softcapping=None, final_logit_softcapping=None, tie_word_embeddings=True, rms_norm_eps=1e-6,
    rope_theta=1e6, rope_local_base_freq=1e4, **SMALL)
CASES = {
    "gemma/mqa": Case(
        "norm weights off by one, embeddings times sqrt(hidden_size), GeGLU of the tanh form although hidden_act says "
        "gelu, head_dim 12 given, MQA 4/1, tied",
        dict(**SMALL, vocab_size=151, hidden_size=36, intermediate_size=52, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=1, head_dim=12, hidden_act="gelu", hidden_activation=None),
        deaf=dict(hidden_activation="gelu")),
    "gemma2/softcaps-window9": Case(
        "soft caps of scores (5) and logits (8) near enough to bend, layers 0 and 2 of 3 with sliding_window 9, norms "
        "before and after each part, query_pre_attn_scalar 20 with head_dim 12, GQA 4/2, 72 tokens",
        dict(**SMALL, vocab_size=139, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, head_dim=12, hidden_activation="gelu_pytorch_tanh",
             query_pre_attn_scalar=20, sliding_window=9, attn_logit_softcapping=5.0, final_logit_softcapping=8.0),
        deaf=dict(query_pre_attn_scalar=12, sliding_window=None, attn_logit_softcapping=None,
                  final_logit_softcapping=None),
        n=72),
    "gemma3_text/pattern3-linear": Case(
        "sliding_window_pattern 3 over 4 layers (0, 1 and 3 local, 2 global), sliding_window 9, bases 1e4 local and "
        "1e6 global, rope_scaling linear on the global layer alone, q/k norm, query_pre_attn_scalar 20 with head_dim 12, "
        "GQA 4/2",
        dict(**GEMMA3, vocab_size=149, hidden_size=32, intermediate_size=44, num_hidden_layers=4,
             num_attention_heads=4, num_key_value_heads=2, head_dim=12, query_pre_attn_scalar=20, sliding_window=9,
             sliding_window_pattern=3, rope_scaling={"rope_type": "linear", "factor": 8.0}, torch_dtype="float16"),
        deaf=dict(sliding_window_pattern=2, rope_scaling=None, query_pre_attn_scalar=12, rope_local_base_freq=1e6,
                  qk_norm=False),
        n=48, dtype="float16", by_reference=LACKING),
    "gemma3_text/layer-types": Case(
        "layer_types (global, local, local) instead of a pattern, sliding_window 5, MQA 3/1 of head_dim 16",
        dict(**GEMMA3, vocab_size=157, hidden_size=32, intermediate_size=40, num_hidden_layers=3,
             num_attention_heads=3, num_key_value_heads=1, head_dim=16, query_pre_attn_scalar=16, sliding_window=5,
             layer_types=["full_attention", "sliding_attention", "sliding_attention"], rope_scaling=None,
             torch_dtype="bfloat16"),
        deaf=dict(layer_types=["sliding_attention", "sliding_attention", "full_attention"], rope_theta=1e4),
        dtype="bfloat16", by_reference=LACKING + ", its layers' kinds set by hand, since it does not know layer_types"),
}
