"""Attention in blocks of queries gives what MLX's own gives, forward and backward."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.attention import chunked_attention

T, S, D = 80, 112, 8
"""Queries, keys where there are more of them, and a head's width."""


def window(queries: int, keys: int, size: int) -> mx.array:
    rows = mx.arange(keys - queries, keys)[:, None]
    columns = mx.arange(keys)[None]
    return (rows >= columns) & (rows < columns + size)


def by_head() -> mx.array:
    return mx.stack([window(T, T, 4 + head) for head in range(4)])[None]


def by_row() -> mx.array:
    return mx.stack([window(T, T, 9), window(T, T, 30)])[:, None]


CASES: dict[str, tuple[int, int, Any]] = {
    "everything": (4, T, None),
    "causal": (4, T, "causal"),
    "causal, two heads a key head": (2, T, "causal"),
    "causal, one key head": (1, T, "causal"),
    "causal, more keys than queries": (2, S, "causal"),
    "window": (4, T, window(T, T, 5)),
    "window, two heads a key head": (2, T, window(T, T, 5)),
    "window, more keys than queries": (2, S, window(T, S, 40)),
    "a mask a row": (2, T, by_row()),
    "a mask a head": (2, T, by_head()),
    "additive mask": (2, T, mx.where(window(T, T, 9), 0.0, -1e9)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("block", [32, 64])
def test_blocks_give_what_mlx_gives(case: str, block: int) -> None:
    key_heads, keys, mask = CASES[case]
    rng = np.random.default_rng(0)

    def random(heads: int, length: int) -> mx.array:
        return mx.array(rng.standard_normal((2, heads, length, D), np.float32))

    inputs = [random(4, T), random(key_heads, keys), random(key_heads, keys)]
    cotangent = random(4, T)

    def attend(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.4, mask=mask)

    expected = mx.vjp(attend, inputs, [cotangent])
    own = mx.fast.scaled_dot_product_attention
    with chunked_attention(score_bytes=2 * 4 * keys * 4 * block):
        assert mx.fast.scaled_dot_product_attention is not own
        found = mx.vjp(attend, inputs, [cotangent])
    assert mx.fast.scaled_dot_product_attention is own
    for ours, theirs in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        assert np.abs(np.array(ours - theirs)).max() < 1e-5 * np.abs(np.array(theirs)).max()


def test_sinks_are_left_to_mlx() -> None:
    q = mx.random.normal((1, 4, T, D))
    sinks = mx.random.normal((4,))
    expected = mx.fast.scaled_dot_product_attention(q, q, q, scale=1.0, mask="causal", sinks=sinks)
    with chunked_attention(score_bytes=1):
        found = mx.fast.scaled_dot_product_attention(q, q, q, scale=1.0, mask="causal", sinks=sinks)
    assert mx.array_equal(found, expected).item()
