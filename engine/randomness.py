"""Random numbers that depend on seed, iteration, row, layer and place in the row alone.

MLX's generator has a hidden state that cannot be saved or rewound, and its draws depend on the
whole shape. Here every draw inside a step is a hash of explicit keys and the place in the row, so
that a recomputed layer sees the mask of its first pass, and neither the size of a micro-batch, nor
its padding, nor a pause changes a run.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_GOLDEN = 0x9E3779B9
_DRAWS_A_PLACE = 1000


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
    keys = [
        np.random.SeedSequence([seed, iteration, row, stream]).generate_state(2) for row in rows
    ]
    return mx.array(np.stack(keys).astype(np.uint32))


@contextmanager
def keyed_randomness(keys: mx.array | None) -> Generator[None, None, None]:
    """Let ``mx.random.bernoulli`` draw from these keys while this is open.

    Args:
        keys: ``[B, 2]``; None leaves MLX's own generator in place.
    """
    if keys is None:
        yield
        return
    original = mx.random.bernoulli
    counter = _Counter()

    def bernoulli(
        p: float | mx.array = 0.5,
        shape: Sequence[int] | None = None,
        key: mx.array | None = None,
        **rest: Any,
    ) -> mx.array:
        if key is not None or shape is None:
            return original(p, shape, key, **rest)
        return _uniform(keys, counter.next(), tuple(shape)) < p

    mx.random.bernoulli = bernoulli
    _counters.append(counter)
    try:
        yield
    finally:
        _counters.remove(counter)
        mx.random.bernoulli = original


@contextmanager
def drawing_for(place: int) -> Generator[None, None, None]:
    """Number the draws inside by a place of their own, whatever was drawn before."""
    if not _counters:
        yield
        return
    counter = _counters[-1]
    outside = counter.draws
    counter.draws = (place + 1) * _DRAWS_A_PLACE
    try:
        yield
    finally:
        counter.draws = outside


class _Counter:
    """Tells the draws of one pass apart."""

    def __init__(self) -> None:
        self.draws = 0

    def next(self) -> int:
        """Return the number of the next draw."""
        self.draws += 1
        return self.draws


# Only ever touched by the trainer thread, like all of MLX here.
_counters: list[_Counter] = []


def _uniform(keys: mx.array, draw: int, shape: tuple[int, ...]) -> mx.array:
    """Numbers in [0, 1) with 24 random bits; a row's depend on its key and their place alone."""
    is_by_row = shape[0] == keys.shape[0]
    keys = keys if is_by_row else keys[:1]
    places = mx.arange(math.prod(shape[1:] if is_by_row else shape), dtype=mx.uint32)
    bits = _mix(places[None] * 0x85EBCA6B + keys[:, :1])
    bits = _mix((bits ^ keys[:, 1:]) + draw * _GOLDEN % 2**32)
    return ((bits >> 8).astype(mx.float32) * 2.0**-24).reshape(shape)


def _mix(bits: mx.array) -> mx.array:
    """MurmurHash3's 32-bit finaliser (Appleby, public domain): every bit affects every other."""
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
    return bits ^ (bits >> 16)
