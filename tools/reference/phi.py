"""Phi-1.5 and Phi-2 (Li et al. 2023): one LayerNorm for attention and mlp in parallel, partial rotary, all biases."""
from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear, rope, rotate_half_split
from .case import Case

MODELS = ("phi",)


def forward(c, t, ids):
    epsilon, head_dim = c["layer_norm_eps"], c["hidden_size"] // c["num_attention_heads"]
    table = rope(len(ids), int(head_dim * c["partial_rotary_factor"]), c["rope_theta"], c.get("rope_scaling"),
                 c["max_position_embeddings"])
    n_kv_head = c.get("num_key_value_heads") or c["num_attention_heads"]
    x = t["model.embed_tokens.weight"][ids]
    for layer in range(c["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        y = layer_norm(x, t, name + ".input_layernorm", epsilon)
        q, k, v = (heads(linear(t, f"{name}.self_attn.{part}_proj", y, True), n) for part, n in
                   [("q", c["num_attention_heads"]), ("k", n_kv_head), ("v", n_kv_head)])
        mixed = attention(rotate_half_split(q, table), rotate_half_split(k, table), v, head_dim**-0.5)
        inner = ACTIVATIONS[c["hidden_act"]](linear(t, name + ".mlp.fc1", y, True))
        x = x + linear(t, name + ".self_attn.dense", mixed, True) + linear(t, name + ".mlp.fc2", inner, True)
    return linear(t, "lm_head", layer_norm(x, t, "model.final_layernorm", epsilon), True)


SMALL = dict(num_hidden_layers=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0)
CASES = {
    "phi/mha-rotary0.4": Case(
        "Phi-2's form: parallel residual, biases everywhere, the head's among them, partial_rotary_factor 0.4 of "
        "head_dim 20",
        dict(**SMALL, vocab_size=151, hidden_size=40, intermediate_size=52, num_attention_heads=2,
             partial_rotary_factor=0.4),
        deaf=dict(partial_rotary_factor=0.5)),
    "phi/gqa-rotary0.5": Case(
        "num_key_value_heads 2 of 4, partial_rotary_factor 0.5 of head_dim 12, rope_theta 5000",
        dict(**SMALL, vocab_size=149, hidden_size=48, intermediate_size=44, num_attention_heads=4,
             num_key_value_heads=2, partial_rotary_factor=0.5, rope_theta=5000.0),
        deaf=dict(partial_rotary_factor=1.0, rope_theta=10000.0), dtype="float16"),
}
