"""Random numbers that depend on seed, iteration, row, layer and place in the row alone.

MLX's generator has a hidden state that cannot be saved or rewound, and its draws depend on the whole
shape. Here every draw inside a step is a hash of explicit keys and the place in the row, so that a
recomputed layer sees the mask of its first pass, and neither the size of a micro-batch, nor its
padding, nor a pause changes a run.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GOLDEN = 0x9E3779B9


def row_keys(seed: int, iteration: int, rows: Sequence[int], stream: int) -> mx.array:
    """Return one key per row of a batch.

    Args:
        seed: the run's.
        iteration: the step's.
        rows: places in the whole batch, whatever micro-batch they are in.
        stream: tells layers apart.

    Returns:
        ``[B, 2]`` unsigned 32-bit.
    """
    keys = [np.random.SeedSequence([seed, iteration, row, stream]).generate_state(2) for row in rows]
    return mx.array(np.stack(keys).astype(np.uint32))


@contextmanager
def keyed_randomness(keys: mx.array | None) -> Iterator[None]:
    """Let ``mx.random.bernoulli`` draw from these keys while this is open.

    Args:
        keys: ``[B, 2]``; None leaves MLX's own generator in place.
    """
    if keys is None:
        yield
        return
    original = mx.random.bernoulli
    draws = 0

    def bernoulli(
        p: float | mx.array = 0.5,
        shape: Sequence[int] | None = None,
        key: mx.array | None = None,
        **rest: Any,
    ) -> mx.array:
        nonlocal draws
        if key is not None or shape is None:
            return original(p, shape, key, **rest)
        draws += 1
        return _uniform(keys, draws, tuple(shape)) < p

    mx.random.bernoulli = bernoulli
    try:
        yield
    finally:
        mx.random.bernoulli = original


def _uniform(keys: mx.array, draw: int, shape: tuple[int, ...]) -> mx.array:
    """Numbers in [0, 1) with 24 random bits; a row's depend on its key and the place in it alone."""
    is_by_row = shape[0] == keys.shape[0]
    keys = keys if is_by_row else keys[:1]
    places = mx.arange(math.prod(shape[1:] if is_by_row else shape), dtype=mx.uint32)
    bits = _mix(places[None] * 0x85EBCA6B + keys[:, :1])
    bits = _mix((bits ^ keys[:, 1:]) + draw * _GOLDEN % 2**32)
    return ((bits >> 8).astype(mx.float32) * 2.0**-24).reshape(shape)


def _mix(bits: mx.array) -> mx.array:
    """The 32-bit finaliser of MurmurHash3 (Appleby, public domain): every bit affects every other."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    return bits ^ (bits >> 16)
