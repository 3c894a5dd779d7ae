"""StarCoder2 (Lozhkov et al. 2024): LayerNorm, rotary halves, grouped k and v heads, a plain mlp, a window, biases."""
from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear, rope, rotate_half_split
from .case import Case

MODELS = ("starcoder2",)


def forward(c, t, ids):
    epsilon, bias, head_dim = c["norm_epsilon"], c["use_bias"], c["hidden_size"] // c["num_attention_heads"]
    table = rope(len(ids), head_dim, c["rope_theta"], c.get("rope_scaling"), c["max_position_embeddings"])
    x = t["model.embed_tokens.weight"][ids]
    for layer in range(c["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        y = layer_norm(x, t, name + ".input_layernorm", epsilon)
        q, k, v = (heads(linear(t, f"{name}.self_attn.{part}_proj", y, bias), n) for part, n in
                   [("q", c["num_attention_heads"]), ("k", c["num_key_value_heads"]), ("v", c["num_key_value_heads"])])
        mixed = attention(rotate_half_split(q, table), rotate_half_split(k, table), v, head_dim**-0.5,
                          c.get("sliding_window"))
        x = x + linear(t, name + ".self_attn.o_proj", mixed, bias)
        y = linear(t, name + ".mlp.c_fc", layer_norm(x, t, name + ".post_attention_layernorm", epsilon), bias)
        x = x + linear(t, name + ".mlp.c_proj", ACTIVATIONS[c["hidden_act"]](y), bias)
    head = t["model.embed_tokens.weight" if c.get("tie_word_embeddings", True) else "lm_head.weight"]
    return layer_norm(x, t, "model.norm", epsilon) @ head.T


CASES = {
    "starcoder2/window7": Case(
        "sliding_window 7 over 40 tokens, use_bias, GQA 6/2 of head_dim 10, norm_epsilon 1e-2, rope_theta 1e6, inner 52, "
        "norm_type and mlp_type as published, tied because the config does not say otherwise",
        dict(num_hidden_layers=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, vocab_size=151,
             hidden_size=60, intermediate_size=52, num_attention_heads=6, num_key_value_heads=2, sliding_window=7,
             norm_epsilon=1e-2, rope_theta=1e6, norm_type="layer_norm", mlp_type="default"),
        deaf=dict(sliding_window=8, use_bias=False, norm_epsilon=1e-5, rope_theta=1e4, hidden_act="gelu"),
        dtype="bfloat16"),
}
