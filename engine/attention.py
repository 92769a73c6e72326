"""Attention whose score matrix exists for a block of queries at a time, forward and backward.

On Metal, training takes MLX's unfused attention: scores of ``[B, H, T, T]`` several times over.
Here a block of queries is worked at a time, keys beyond the block are left out under a causal mask,
and the backward pass computes the block's weights again (the order of work of FlashAttention-2,
Dao 2023, without its kernels).
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


@contextmanager
def chunked_attention(score_bytes: int) -> Generator[None]:
    """Answer ``mx.fast.scaled_dot_product_attention`` in blocks while this is open.

    Args:
        score_bytes: what one score-sized array of a block may take.
    """
    original = mx.fast.scaled_dot_product_attention

    def attention(
        q: mx.array,
        k: mx.array,
        v: mx.array,
        *,
        scale: float,
        mask: str | mx.array | None = None,
        sinks: mx.array | None = None,
        **rest: Any,
    ) -> mx.array:
        block = _block(q, k.shape[2], score_bytes)
        # An additive mask may need a gradient of its own.
        additive = isinstance(mask, mx.array) and mask.dtype != mx.bool_
        if block >= q.shape[2] or sinks is not None or rest or additive:
            return original(q, k, v, scale=scale, mask=mask, sinks=sinks, **rest)
        attend = _attend(scale, isinstance(mask, str), block)
        return attend(q, k, v, mask) if isinstance(mask, mx.array) else attend(q, k, v)

    mx.fast.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        mx.fast.scaled_dot_product_attention = original


def _block(q: mx.array, keys: int, score_bytes: int) -> int:
    """Queries a block: a multiple of 32 whose scores stay within the bytes allowed."""
    rows, heads, queries, _ = q.shape
    fitting = score_bytes // (rows * heads * keys * q.itemsize)
    return min(queries, max(32, fitting // 32 * 32))


@cache
def _attend(scale: float, is_causal: bool, block: int) -> Callable[..., mx.array]:
    @mx.custom_function
    def attend(q: mx.array, k: mx.array, v: mx.array, *mask: mx.array) -> mx.array:
        outs = [
            _weights(_grouped(q, k, span), k, mask, span, scale, is_causal)
            @ v[:, :, None, : span[2]]
            for span in _spans(q, k, is_causal, block)
        ]
        return _joined(outs, q.shape[1])

    @attend.vjp  # pyright: ignore[reportUntypedFunctionDecorator] - MLX gives no type
    def attend_vjp(primals: Any, cotangent: mx.array, out: mx.array) -> Any:
        q, k, v, *mask = primals
        delta = (cotangent.astype(mx.float32) * out.astype(mx.float32)).sum(axis=-1, keepdims=True)
        dk = mx.zeros(k.shape, mx.float32)
        dv = mx.zeros(v.shape, mx.float32)
        dqs: list[mx.array] = []
        for span in _spans(q, k, is_causal, block):
            seen = span[2]
            queries, d_out = _grouped(q, k, span), _grouped(cotangent, k, span)
            weights = _weights(queries, k, tuple(mask), span, scale, is_causal)
            d_weights = d_out @ v[:, :, None, :seen].swapaxes(-1, -2)
            d_scores = weights.astype(mx.float32) * (
                d_weights.astype(mx.float32) - _grouped(delta, k, span)
            )
            d_scores = (d_scores * scale).astype(q.dtype)
            dqs.append(d_scores @ k[:, :, None, :seen])
            # The sum over a group's query heads is a longer inner dimension of the same product.
            dk[:, :, :seen] += _over_groups(d_scores).swapaxes(-1, -2) @ _over_groups(queries)
            dv[:, :, :seen] += _over_groups(weights).swapaxes(-1, -2) @ _over_groups(d_out)
        gradients = [_joined(dqs, q.shape[1]), dk.astype(k.dtype), dv.astype(v.dtype)]
        return tuple(gradients + [mx.zeros_like(m) for m in mask])

    return cast("Callable[..., mx.array]", attend)


def _spans(q: mx.array, k: mx.array, is_causal: bool, block: int) -> Iterator[tuple[int, int, int]]:
    """First query, last query + 1, and how many keys they may see."""
    queries, keys = q.shape[2], k.shape[2]
    for start in range(0, queries, block):
        end = min(start + block, queries)
        yield start, end, keys - queries + end if is_causal else keys


def _grouped(x: mx.array, k: mx.array, span: tuple[int, int, int]) -> mx.array:
    """``[B, H, T, D]`` to a block ``[B, K, G, t, D]``, query heads of a key head together."""
    start, end, _ = span
    rows, heads, _, width = x.shape
    return x[:, :, start:end].reshape(rows, k.shape[1], heads // k.shape[1], end - start, width)


def _over_groups(x: mx.array) -> mx.array:
    """``[B, K, G, t, D]`` to ``[B, K, G·t, D]``."""
    rows, keys, groups, block, width = x.shape
    return x.reshape(rows, keys, groups * block, width)


def _joined(blocks: list[mx.array], heads: int) -> mx.array:
    """Blocks of ``[B, K, G, t, D]`` to ``[B, H, T, D]``."""
    flat = [x.reshape(x.shape[0], heads, x.shape[3], x.shape[4]) for x in blocks]
    return mx.concatenate(flat, axis=2) if len(flat) > 1 else flat[0]


def _weights(
    queries: mx.array,
    k: mx.array,
    mask: tuple[mx.array, ...],
    span: tuple[int, int, int],
    scale: float,
    is_causal: bool,
) -> mx.array:
    """A block's attention weights ``[B, K, G, t, S]``, as MLX's own fallback computes them."""
    start, end, seen = span
    scores = (queries * scale) @ k[:, :, None, :seen].swapaxes(-1, -2)
    if is_causal:
        rows = mx.arange(seen - (end - start), seen)[:, None]
        scores = mx.where(rows >= mx.arange(seen)[None], scores, mx.finfo(scores.dtype).min)
    elif mask:
        allowed = _mask_block(mask[0], queries.shape, start, end)
        scores = mx.where(allowed, scores, mx.finfo(scores.dtype).min)
    return mx.softmax(scores, axis=-1, precise=True)


def _mask_block(mask: mx.array, shape: tuple[int, ...], start: int, end: int) -> mx.array:
    """A boolean mask that broadcasts to ``[B, H, T, S]``, cut to the block's queries."""
    _, keys, groups, _, _ = shape
    while mask.ndim < 4:
        mask = mask[None]
    if mask.shape[2] > 1:
        mask = mask[:, :, start:end]
    if mask.shape[1] == 1:
        return mask[:, :, None]
    return mask.reshape(mask.shape[0], keys, groups, *mask.shape[2:])
