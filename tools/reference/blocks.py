"""Building blocks of the decoders: norms, rotary positions, attention, activations. Rows are [n, ...]."""
import math

import numpy as np

from gpt2_numpy import ACTIVATIONS, layer_norm  # noqa: F401, both are used by the decoders


def linear(t, name, x, bias=False):
    """torch's nn.Linear: the weight is [out, in]."""
    y = x @ t[name + ".weight"].T
    return y + t[name + ".bias"] if bias else y


def rms_norm(x, weight, epsilon):
    """Zhang and Sennrich 2019, equation 4, with epsilon under the root as in Llama."""
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def heads(x, n_head):
    return x.reshape(len(x), n_head, -1)


# ---- attention ------------------------------------------------------------------------------------------------------


def attention(q, k, v, scale, window=None, soft_cap=None):
    """q [n, n_head, d], k and v [n, n_kv_head, d] -> [n, n_head * d]. A query sees itself and window - 1 before it."""
    n, n_head = q.shape[:2]
    k, v = (np.repeat(x, n_head // x.shape[1], axis=1) for x in (k, v))
    score = np.einsum("qhd,khd->hqk", q, k) * scale
    if soft_cap:
        score = soft_cap * np.tanh(score / soft_cap)
    distance = np.arange(n)[:, None] - np.arange(n)
    visible = (distance >= 0) & (distance < (window or n))
    score = np.where(visible, score, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weight, v).reshape(n, -1)


# ---- rotary positions (Su et al. 2021) ------------------------------------------------------------------------------


def rope(n, dim, theta, scaling=None, max_positions=None):
    """cos and sin [n, dim / 2] for the positions 0..n, for the first dim elements of a head.

    scaling is config.json's rope_scaling, max_positions its max_position_embeddings.
    """
    scaling = scaling or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    frequency, factor = SCALINGS[kind](theta ** (-np.arange(0, dim, 2) / dim), n, dim, theta, scaling, max_positions)
    angle = np.arange(n)[:, None] * frequency
    return np.cos(angle) * factor, np.sin(angle) * factor


def default_scaling(frequency, n, dim, theta, scaling, max_positions):
    return frequency, 1.0


def linear_scaling(frequency, n, dim, theta, scaling, max_positions):
    return frequency / scaling["factor"], 1.0


def dynamic_scaling(frequency, n, dim, theta, scaling, max_positions):
    """Beyond max_positions the base grows with the length (bloc97 and emozilla, "dynamic NTK").

    The length is the text's length when the token was decoded: p + 1 at position p. If one call processes a long text,
    it uses the frequencies of the whole length for all tokens. So its logits depend on how the text was split.
    """
    factor = scaling["factor"]
    length = np.maximum(np.arange(n) + 1, max_positions)
    base = theta * (factor * length / max_positions - (factor - 1)) ** (dim / (dim - 2))
    return base[:, None] ** (-np.arange(0, dim, 2) / dim), 1.0


def yarn_scaling(frequency, n, dim, theta, scaling, max_positions):
    """Peng et al. 2023 (arXiv 2309.00071), section 3.2: fast dimensions as trained, slow ones interpolated."""
    factor = scaling["factor"]
    length = scaling.get("original_max_position_embeddings") or max_positions

    def dimension(rotations):
        return dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(dimension(scaling.get("beta_fast") or 32)), 0)
    high = min(math.ceil(dimension(scaling.get("beta_slow") or 1)), dim - 1)
    ramp = np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
    attention_factor = scaling.get("attention_factor") or 0.1 * math.log(factor) + 1
    return frequency * (1 - ramp) + frequency / factor * ramp, attention_factor


def llama3_scaling(frequency, n, dim, theta, scaling, max_positions):
    """Llama 3.1's published `apply_scaling`: long waves divided, short ones kept, a ramp between."""
    rotations = scaling["original_max_position_embeddings"] * frequency / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = np.clip((rotations - low) / (high - low), 0, 1)
    return frequency * kept + frequency / scaling["factor"] * (1 - kept), 1.0


SCALINGS = {"default": default_scaling, "linear": linear_scaling, "dynamic": dynamic_scaling, "yarn": yarn_scaling,
            "llama3": llama3_scaling}


def rotate_half_split(x, table):
    """Pairs (i, i + dim / 2) of the first dim elements of each head; x [n, n_head, d]."""
    cos, sin = (z[:, None, :].astype(x.dtype) for z in table)
    dim = 2 * cos.shape[-1]
    a, b, rest = x[..., : dim // 2], x[..., dim // 2 : dim], x[..., dim:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos, rest], -1)


def rotate_interleaved(x, table):
    """Pairs (2i, 2i + 1) of the first dim elements of each head; x [n, n_head, d]."""
    cos, sin = (z[:, None, :].astype(x.dtype) for z in table)
    out, dim = x.copy(), 2 * cos.shape[-1]
    a, b = x[..., 0:dim:2], x[..., 1:dim:2]
    out[..., 0:dim:2], out[..., 1:dim:2] = a * cos - b * sin, a * sin + b * cos
    return out
