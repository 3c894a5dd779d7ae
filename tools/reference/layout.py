"""Checks the arithmetic of three differences between the engine's layout and the checkpoints' layout.

Rows of q and k of a head with half-split rotary pairs (i, i + r / 2) are reordered to interleaved pairs (2i, 2i + 1),
together with the norm weights of q and k. Gate and up become one matrix, which has four rows of each in turn.
"""
import numpy as np

from .blocks import rms_norm, rope, rotate_half_split, rotate_interleaved


def interleaved_order(head_dim, rotary):
    """order[new] = old for one head: 0, r / 2, 1, r / 2 + 1, ..., then the elements that are not rotated."""
    pairs = np.arange(rotary).reshape(2, -1).T.ravel()
    return np.concatenate([pairs, np.arange(rotary, head_dim)])


def gate_up_rows(n_inner):
    """Rows of gate and of up in the common matrix, whose parts are padded to a multiple of four."""
    i = np.arange(n_inner)
    gate = i // 4 * 8 + i % 4
    return gate, gate + 4


def check():
    rng = np.random.default_rng(0)
    for head_dim, rotary in [(12, 12), (20, 8), (10, 4), (64, 64), (16, 2)]:
        table, order, n = rope(9, rotary, 10000.0), interleaved_order(head_dim, rotary), 9
        q, k = rng.standard_normal((2, n, 3, head_dim))
        norm = rng.standard_normal((2, head_dim))
        scores = [np.einsum("qhd,khd->hqk", rotate(rms_norm(q[..., o], norm[0, o], 1e-6), table),
                            rotate(rms_norm(k[..., o], norm[1, o], 1e-6), table))
                  for rotate, o in [(rotate_half_split, np.arange(head_dim)), (rotate_interleaved, order)]]
        assert abs(scores[0] - scores[1]).max() < 1e-12, (head_dim, rotary)
        wrong = np.einsum("qhd,khd->hqk", rotate_interleaved(q, table), rotate_interleaved(k, table))
        plain = np.einsum("qhd,khd->hqk", rotate_half_split(q, table), rotate_half_split(k, table))
        assert rotary == 2 or abs(wrong - plain).max() > 1e-2, "the order of the rows has to matter"
    for n_inner in (4, 45, 48):
        gate, up = gate_up_rows(n_inner)
        both = np.concatenate([gate, up])
        assert len(set(both)) == 2 * n_inner and both.max() < 2 * (-(-n_inner // 4) * 4)
