"""GPT-Neo (Black et al. 2021): alternating global and local layers, unscaled scores."""
from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear
from .case import Case

MODELS = ("gpt_neo",)


def layer_kinds(c):
    """attention_types [[["global", "local"], 2]] -> global, local, global, local"""
    return [kind for kinds, times in c["attention_types"] for _ in range(times) for kind in kinds]


def forward(c, t, ids):
    epsilon, n_head = c["layer_norm_epsilon"], c["num_heads"]
    x = t["transformer.wte.weight"][ids] + t["transformer.wpe.weight"][: len(ids)]
    for layer, kind in enumerate(layer_kinds(c)):
        name = f"transformer.h.{layer}"
        y = layer_norm(x, t, name + ".ln_1", epsilon)
        q, k, v = (heads(linear(t, f"{name}.attn.attention.{part}_proj", y), n_head) for part in "qkv")
        mixed = attention(q, k, v, c.get("scale", 1), c["window_size"] if kind == "local" else None)
        x = x + linear(t, name + ".attn.attention.out_proj", mixed, True)
        y = linear(t, name + ".mlp.c_fc", layer_norm(x, t, name + ".ln_2", epsilon), True)
        x = x + linear(t, name + ".mlp.c_proj", ACTIVATIONS[c["activation_function"]](y), True)
    return layer_norm(x, t, "transformer.ln_f", epsilon) @ t["transformer.wte.weight"].T


CASES = {
    "gpt_neo/global-local8": Case(
        "layers global, local, global with window_size 8, scores not scaled, head_dim 9, inner 4 hidden_size, tied",
        dict(vocab_size=151, hidden_size=36, num_layers=3, num_heads=4, max_position_embeddings=64,
             attention_types=[[["global", "local"], 1], [["global"], 1]], window_size=8, intermediate_size=None,
             bos_token_id=0, eos_token_id=0),
        deaf=dict(window_size=64, scale=1 / 3, attention_types=[[["global"], 3]]), dtype="float16"),
}
