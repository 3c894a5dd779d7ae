"""Phi-3 (Abdin et al. 2024): Llama's block with q, k, v in one matrix, gate and up in another, and a window."""
import numpy as np

from .blocks import ACTIVATIONS, attention, heads, linear, rms_norm, rope, rotate_half_split
from .case import Case

MODELS = ("phi3",)


def forward(c, t, ids):
    epsilon, n_head, n_kv_head = c["rms_norm_eps"], c["num_attention_heads"], c["num_key_value_heads"]
    head_dim = c["hidden_size"] // n_head
    table = rope(len(ids), head_dim, c["rope_theta"], c.get("rope_scaling"), c["max_position_embeddings"])
    x = t["model.embed_tokens.weight"][ids]
    for layer in range(c["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        y = rms_norm(x, t[name + ".input_layernorm.weight"], epsilon)
        qkv = heads(linear(t, name + ".self_attn.qkv_proj", y), n_head + 2 * n_kv_head)
        q, k, v = np.split(qkv, [n_head, n_head + n_kv_head], axis=1)
        q, k = rotate_half_split(q, table), rotate_half_split(k, table)
        mixed = attention(q, k, v, head_dim**-0.5, c.get("sliding_window"))
        x = x + linear(t, name + ".self_attn.o_proj", mixed)
        y = rms_norm(x, t[name + ".post_attention_layernorm.weight"], epsilon)
        gate, up = np.split(linear(t, name + ".mlp.gate_up_proj", y), 2, axis=-1)
        x = x + linear(t, name + ".mlp.down_proj", ACTIVATIONS[c["hidden_act"]](gate) * up)
    head = t["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return rms_norm(x, t["model.norm.weight"], epsilon) @ head.T


CASES = {
    "phi3/window9": Case(
        "fused qkv_proj and gate_up_proj, sliding_window 9, GQA 4/2 of head_dim 10, inner 45, untied",
        dict(vocab_size=151, hidden_size=40, intermediate_size=45, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=64, original_max_position_embeddings=64, sliding_window=9,
             tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        deaf=dict(sliding_window=None)),
}
