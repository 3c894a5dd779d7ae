"""GPT-J (Wang and Komatsuzaki 2021): one norm for attention and mlp in parallel, interleaved rotary pairs."""
from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear, rope, rotate_interleaved
from .case import Case

MODELS = ("gptj",)


def forward(c, t, ids):
    epsilon, n_head = c["layer_norm_epsilon"], c["n_head"]
    table = rope(len(ids), c["rotary_dim"], 10000.0)
    x = t["transformer.wte.weight"][ids]
    for layer in range(c["n_layer"]):
        name = f"transformer.h.{layer}"
        y = layer_norm(x, t, name + ".ln_1", epsilon)
        q, k, v = (heads(linear(t, f"{name}.attn.{part}_proj", y), n_head) for part in "qkv")
        mixed = attention(rotate_interleaved(q, table), rotate_interleaved(k, table), v, q.shape[-1] ** -0.5)
        inner = ACTIVATIONS[c["activation_function"]](linear(t, name + ".mlp.fc_in", y, True))
        x = x + linear(t, name + ".attn.out_proj", mixed) + linear(t, name + ".mlp.fc_out", inner, True)
    return linear(t, "lm_head", layer_norm(x, t, "transformer.ln_f", epsilon), True)


CASES = {
    "gptj/rotary4": Case(
        "interleaved rotary pairs in rotary_dim 4 of head_dim 10, one norm and a parallel residual, biases in mlp and "
        "head but not in attention, untied",
        dict(vocab_size=151, n_positions=64, n_embd=40, n_layer=2, n_head=4, rotary_dim=4, n_inner=None, bos_token_id=0,
             eos_token_id=0),
        deaf=dict(rotary_dim=10), dtype="float16"),
}
