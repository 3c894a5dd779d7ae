"""Llama 2 and 3 (Touvron et al. 2023, Dubey et al. 2024), Mistral (Jiang et al. 2023), Qwen2 (Yang et al. 2024), Qwen3
(Yang et al. 2025, arXiv 2505.09388, section 2: qkv bias gone, RMSNorm of each q and k head; order and names from the
published modeling_qwen3.py of transformers 4.51)."""
from .blocks import ACTIVATIONS, attention, heads, linear, rms_norm, rope, rotate_half_split
from .case import Case

MODELS = ("llama", "mistral", "qwen2", "qwen3")


def window_of_layer(c, layer):
    if c["model_type"] == "mistral":
        return c.get("sliding_window")
    windowed = c.get("use_sliding_window") and layer >= c["max_window_layers"]
    return c["sliding_window"] if windowed else None


def head_dim_of(c):
    return c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]


def self_attention(c, t, name, x, table, window):
    head_dim, kind = head_dim_of(c), c["model_type"]
    bias = c.get("attention_bias", kind == "qwen2")
    q, k, v = (heads(linear(t, f"{name}.{part}_proj", x, bias), n) for part, n in
               [("q", c["num_attention_heads"]), ("k", c["num_key_value_heads"]), ("v", c["num_key_value_heads"])])
    if kind == "qwen3" and c.get("qk_norm", True):
        q, k = (rms_norm(z, t[f"{name}.{part}_norm.weight"], c["rms_norm_eps"]) for z, part in [(q, "q"), (k, "k")])
    q, k = rotate_half_split(q, table), rotate_half_split(k, table)
    mixed = attention(q, k, v, head_dim**-0.5, window)
    return linear(t, name + ".o_proj", mixed, bias and kind != "qwen2")


def gated_mlp(c, t, name, x, activation, bias=False):
    gate = ACTIVATIONS[activation](linear(t, name + ".gate_proj", x, bias))
    return linear(t, name + ".down_proj", gate * linear(t, name + ".up_proj", x, bias), bias)


def forward(c, t, ids):
    epsilon = c["rms_norm_eps"]
    table = rope(len(ids), head_dim_of(c), c["rope_theta"], c.get("rope_scaling"), c["max_position_embeddings"])
    x = t["model.embed_tokens.weight"][ids]
    for layer in range(c["num_hidden_layers"]):
        name = f"model.layers.{layer}"
        y = rms_norm(x, t[name + ".input_layernorm.weight"], epsilon)
        x = x + self_attention(c, t, name + ".self_attn", y, table, window_of_layer(c, layer))
        y = rms_norm(x, t[name + ".post_attention_layernorm.weight"], epsilon)
        x = x + gated_mlp(c, t, name + ".mlp", y, c["hidden_act"], c.get("mlp_bias", False))
    head = t["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
    return rms_norm(x, t["model.norm.weight"], epsilon) @ head.T


def shapes(c):
    """Name -> shape of a Qwen3, which transformers 4.46 cannot list."""
    hidden, inner, head_dim = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * head_dim, c["num_key_value_heads"] * head_dim
    out = {"model.embed_tokens.weight": (c["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    for layer in range(c["num_hidden_layers"]):
        parts = {"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
                 "self_attn.o_proj": (hidden, q), "self_attn.q_norm": (head_dim,), "self_attn.k_norm": (head_dim,),
                 "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner),
                 "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
        out.update({f"model.layers.{layer}.{part}.weight": shape for part, shape in parts.items()})
    if not c["tie_word_embeddings"]:
        out["lm_head.weight"] = (c["vocab_size"], hidden)
    return out


LACKING = "transformers 4.46 has no Qwen3; the model of 4.51.3, run once on these files in float64, agrees to 1e-13"
SMALL = dict(num_hidden_layers=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
QWEN3 = dict(
    architectures=["Qwen3ForCausalLM"], model_type="qwen3", hidden_act="silu", attention_bias=False,
    attention_dropout=0.0, initializer_range=0.02, use_cache=True, use_sliding_window=False, sliding_window=None,
    **SMALL)
CASES = {
    "llama/linear": Case(
        "rope_scaling linear with the key `type` alone, head_dim 12 given, GQA 3/1, untied",
        dict(**SMALL, vocab_size=151, hidden_size=36, intermediate_size=52, num_attention_heads=3,
             num_key_value_heads=1, tie_word_embeddings=False, rope_scaling={"type": "linear", "factor": 4.0}),
        deaf=dict(rope_scaling=None)),
    "llama/dynamic": Case(
        "rope_scaling dynamic (NTK) beyond max_position_embeddings 16: position p has the frequencies of length p + 1; "
        "transformers run a token at a time",
        dict(**{**SMALL, "max_position_embeddings": 16}, vocab_size=157, hidden_size=40, intermediate_size=56,
             num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
             rope_scaling={"rope_type": "dynamic", "factor": 3.0}),
        deaf=dict(rope_scaling=None), stepwise=True, dtype="float16"),
    "llama/yarn": Case(
        "rope_scaling yarn with its defaults, its length being max_position_embeddings",
        dict(**SMALL, vocab_size=149, hidden_size=48, intermediate_size=60, num_attention_heads=3,
             num_key_value_heads=3, tie_word_embeddings=True, rope_scaling={"rope_type": "yarn", "factor": 4.0}),
        deaf=dict(rope_scaling={"rope_type": "linear", "factor": 4.0}), dtype="float16"),
    "llama/yarn-original": Case(
        "rope_scaling yarn with original_max_position_embeddings 16, attention_factor, beta_fast and beta_slow; "
        "transformers 4.46 takes max_position_embeddings for the original length and was given 16",
        dict(**{**SMALL, "max_position_embeddings": 64}, vocab_size=163, hidden_size=32, intermediate_size=44,
             num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True,
             rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
                           "attention_factor": 1.25, "beta_fast": 4.0, "beta_slow": 0.25}),
        deaf=dict(rope_scaling={"rope_type": "yarn", "factor": 4.0}), hf=dict(max_position_embeddings=16)),
    "llama/biases": Case(
        "attention_bias and mlp_bias, head_dim 10 given, GQA 6/3, inner 45",
        dict(**SMALL, vocab_size=167, hidden_size=36, intermediate_size=45, num_attention_heads=6,
             num_key_value_heads=3, head_dim=10, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
             rms_norm_eps=1e-2),
        deaf=dict(attention_bias=False, mlp_bias=False, rms_norm_eps=1e-6), dtype="bfloat16"),
    "mistral/window7": Case(
        "sliding_window 7 over 96 tokens, head_dim 20 given, MQA 4/1, rope_theta 1e6",
        dict(**SMALL, vocab_size=139, hidden_size=36, intermediate_size=48, num_attention_heads=4,
             num_key_value_heads=1, head_dim=20, sliding_window=7, tie_word_embeddings=False, rope_theta=1e6),
        deaf=dict(sliding_window=8, rope_theta=1e4), n=96, dtype="bfloat16"),
    "mistral/no-window": Case(
        "sliding_window null, head_dim 6 given, GQA 6/2",
        dict(**SMALL, vocab_size=137, hidden_size=32, intermediate_size=40, num_attention_heads=6,
             num_key_value_heads=2, head_dim=6, sliding_window=None, tie_word_embeddings=False),
        deaf=dict(sliding_window=16), dtype="float16"),
    "qwen2/untied-window9": Case(
        "untied head, use_sliding_window with max_window_layers 0: sliding_window 9 in every layer",
        dict(**SMALL, vocab_size=149, hidden_size=36, intermediate_size=44, num_attention_heads=3,
             num_key_value_heads=1, use_sliding_window=True, sliding_window=9, max_window_layers=0,
             tie_word_embeddings=False, rope_theta=1e6),
        deaf=dict(use_sliding_window=False, attention_bias=False), dtype="float16"),
    "qwen2/window-from-layer1": Case(
        "use_sliding_window with max_window_layers 1 of 3: layer 0 sees all, sliding_window 9 from layer 1 on",
        dict(**{**SMALL, "num_hidden_layers": 3}, vocab_size=151, hidden_size=32, intermediate_size=40,
             num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True, sliding_window=9,
             max_window_layers=1, tie_word_embeddings=True, rope_theta=1e6),
        deaf=dict(use_sliding_window=False, max_window_layers=0), dtype="float16",
        by_reference="transformers 4.46 obeys max_window_layers in its flash attention alone; its eager attention "
                     "windows every layer. Later versions (Qwen2Config.layer_types) do as here, and 4.46 "
                     "with a full mask for layer 0, run once on these files, agrees to 1e-13"),
    "qwen3/tied": Case(
        "RMSNorm of each q and k head, head_dim 12 given, GQA 4/2, tied",
        dict(**QWEN3, vocab_size=151, hidden_size=36, intermediate_size=48, num_attention_heads=4,
             num_key_value_heads=2, head_dim=12, max_window_layers=2, tie_word_embeddings=True, rms_norm_eps=1e-6,
             rope_theta=1e6, rope_scaling=None, torch_dtype="float32"),
        deaf=dict(qk_norm=False, rope_theta=1e4), by_reference=LACKING),
    "qwen3/untied-yarn": Case(
        "RMSNorm of each q and k head, head_dim 16 given, MQA 3/1, untied, rope_scaling yarn",
        dict(**QWEN3, vocab_size=157, hidden_size=32, intermediate_size=44, num_attention_heads=3,
             num_key_value_heads=1, head_dim=16, max_window_layers=2, tie_word_embeddings=False, rms_norm_eps=1e-6,
             rope_theta=1e4, torch_dtype="bfloat16",
             rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}),
        deaf=dict(qk_norm=False, rope_scaling=None), dtype="bfloat16", by_reference=LACKING),
}
