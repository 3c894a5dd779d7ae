"""GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023)."""
from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear, rope, rotate_half_split
from .case import Case

MODELS = ("gpt_neox",)


def self_attention(c, t, name, x, table):
    """Rows of query_key_value are grouped by head: q, k and v of head 0, then of head 1, ..."""
    bias = c.get("attention_bias", True)
    qkv = heads(linear(t, name + ".query_key_value", x, bias), c["num_attention_heads"])
    head_dim = qkv.shape[-1] // 3
    q, k, v = qkv[..., :head_dim], qkv[..., head_dim : 2 * head_dim], qkv[..., 2 * head_dim :]
    mixed = attention(rotate_half_split(q, table), rotate_half_split(k, table), v, head_dim**-0.5)
    return linear(t, name + ".dense", mixed, bias)


def forward(c, t, ids):
    epsilon, activation = c["layer_norm_eps"], ACTIVATIONS[c["hidden_act"]]
    rotary = int(c["hidden_size"] // c["num_attention_heads"] * c["rotary_pct"])
    table = rope(len(ids), rotary, c["rotary_emb_base"], c.get("rope_scaling"), c["max_position_embeddings"])
    x = t["gpt_neox.embed_in.weight"][ids]
    for layer in range(c["num_hidden_layers"]):
        name = f"gpt_neox.layers.{layer}"
        y = layer_norm(x, t, name + ".input_layernorm", epsilon)
        attended = self_attention(c, t, name + ".attention", y, table)
        y = x if c["use_parallel_residual"] else x + attended
        y = layer_norm(y, t, name + ".post_attention_layernorm", epsilon)
        y = activation(linear(t, name + ".mlp.dense_h_to_4h", y, True))
        x = x + attended + linear(t, name + ".mlp.dense_4h_to_h", y, True)
    head = t["gpt_neox.embed_in.weight" if c["tie_word_embeddings"] else "embed_out.weight"]
    return layer_norm(x, t, "gpt_neox.final_layer_norm", epsilon) @ head.T


CASES = {
    "gpt_neox/tied-rotary1": Case(
        "rotary_pct 1, tied head, attention_bias false, gelu_new, rotary_emb_base 5000, head_dim 10, inner 52",
        dict(vocab_size=151, hidden_size=40, intermediate_size=52, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=64, rotary_pct=1.0, rotary_emb_base=5000, hidden_act="gelu_new",
             use_parallel_residual=True, attention_bias=False, tie_word_embeddings=True, bos_token_id=0,
             eos_token_id=0),
        deaf=dict(rotary_pct=0.5, rotary_emb_base=10000, hidden_act="gelu", use_parallel_residual=False),
        dtype="float16", drop=("rope_theta", "partial_rotary_factor")),
}
