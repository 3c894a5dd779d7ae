"""OPT (Zhang et al. 2022), the form with the norm first (all sizes but 350M)."""
from .blocks import ACTIVATIONS, attention, heads, layer_norm, linear
from .case import Case

MODELS = ("opt",)
POSITION_OFFSET = 2  # fairseq keeps two rows of the position table for padding
EPSILON = 1e-5  # torch's default; the config has no field for it


def forward(c, t, ids):
    first = c.get("position_offset", POSITION_OFFSET)
    x = t["model.decoder.embed_tokens.weight"][ids]
    x = x + t["model.decoder.embed_positions.weight"][first : first + len(ids)]
    for layer in range(c["num_hidden_layers"]):
        name = f"model.decoder.layers.{layer}"
        y = layer_norm(x, t, name + ".self_attn_layer_norm", EPSILON)
        q, k, v = (heads(linear(t, f"{name}.self_attn.{part}_proj", y, True), c["num_attention_heads"])
                   for part in "qkv")
        x = x + linear(t, name + ".self_attn.out_proj", attention(q, k, v, q.shape[-1] ** -0.5), True)
        y = linear(t, name + ".fc1", layer_norm(x, t, name + ".final_layer_norm", EPSILON), True)
        x = x + linear(t, name + ".fc2", ACTIVATIONS[c["activation_function"]](y), True)
    return layer_norm(x, t, "model.decoder.final_layer_norm", EPSILON) @ t["model.decoder.embed_tokens.weight"].T


CASES = {
    "opt/relu": Case(
        "learned positions from row 2 on, relu, head_dim 9, ffn_dim 52, tied",
        dict(vocab_size=151, hidden_size=36, ffn_dim=52, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=64, word_embed_proj_dim=36, pad_token_id=1, bos_token_id=2, eos_token_id=2),
        deaf=dict(position_offset=0, activation_function="gelu"), dtype="float16"),
}
