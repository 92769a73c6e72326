"""The end of the model: final norm, head and cross entropy, over a few positions at a time.

Only positions whose target counts are worked, and logits exist for one chunk of them at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from engine.layers import StepSettings
    from engine.parts import Parts

SMALLEST_CHUNK = 32


class StepInterrupted(Exception):  # noqa: N818 - a signal, not an error
    """A stop was asked for inside a step; the step's work so far is dropped."""


def token_losses(logits: mx.array, targets: mx.array) -> mx.array:
    """Return each position's cross entropy in nats, computed in float32.

    Args:
        logits: ``[..., V]``.
        targets: ``[...]``.
    """
    return cast("mx.array", _token_losses(logits, targets))


@mx.custom_function
def _token_losses(logits: mx.array, targets: mx.array) -> mx.array:
    picked = mx.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return mx.logsumexp(logits.astype(mx.float32), axis=-1) - picked.astype(mx.float32)


@_token_losses.vjp  # pyright: ignore[reportUntypedFunctionDecorator] - MLX gives no type
def _token_losses_vjp(primals: Any, cotangent: mx.array, losses: mx.array) -> Any:
    """Probability less one-hot target; held in the logits' own type, never as a float32 matrix."""
    logits, targets = primals
    picked = mx.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    log_sum = losses + picked.astype(mx.float32)
    probabilities = mx.exp(logits.astype(mx.float32) - log_sum[..., None])
    is_target = mx.arange(logits.shape[-1]) == targets[..., None]
    gradient = (probabilities - is_target) * cotangent[..., None]
    return gradient.astype(logits.dtype), mx.zeros_like(targets)


class Tail:
    """Loss, and its gradient for the last layer's output."""

    def __init__(self, parts: Parts, settings: StepSettings) -> None:
        self._parts = parts
        self._chunk = settings.tail_chunk
        self._pads = settings.compiled
        compile_: Callable[[Any], Any] = mx.compile if settings.compiled else lambda f: f
        self._value = compile_(self._chunk_loss)
        self._value_and_gradient = compile_(self._chunk_loss_and_gradient)

    def loss(
        self,
        hidden: mx.array,
        tokens: npt.NDArray[np.int32],
        trained: npt.NDArray[np.bool_],
        should_stop: Callable[[], bool],
    ) -> mx.array:
        """Return the evaluated loss sum over trained positions; ``hidden`` is ``[b, T, H]``.

        Raises:
            StepInterrupted: when a stop was asked for between chunks.
        """
        flat = self._parts.by_position(hidden)
        total = mx.array(0.0)
        for places, targets, weights in self._chunks(tokens, trained):
            total = total + self._value(flat[places][None], targets, weights)
            mx.eval(total)
            if should_stop():
                raise StepInterrupted
        return total

    def loss_and_gradient(
        self,
        hidden: mx.array,
        tokens: npt.NDArray[np.int32],
        trained: npt.NDArray[np.bool_],
        should_stop: Callable[[], bool],
    ) -> tuple[mx.array, mx.array]:
        """Return the loss sum, and its gradient ``[b, T, H]``, both evaluated.

        Raises:
            StepInterrupted: when a stop was asked for between chunks.
        """
        flat = self._parts.by_position(hidden)
        total = mx.array(0.0)
        gradient = mx.zeros_like(flat)
        for places, targets, weights in self._chunks(tokens, trained):
            value, piece = self._value_and_gradient(flat[places][None], targets, weights)
            total = total + value
            # Padding repeats a place with weight 0, so adding is right where setting is not.
            gradient = gradient.at[places].add(piece[0])
            mx.eval(total, gradient)
            if should_stop():
                raise StepInterrupted
        return total, self._parts.as_hidden(gradient, len(tokens))

    def _chunk_loss(self, hidden: mx.array, targets: mx.array, weights: mx.array) -> mx.array:
        return (token_losses(self._parts.tail(hidden), targets) * weights).sum()

    def _chunk_loss_and_gradient(
        self, hidden: mx.array, targets: mx.array, weights: mx.array
    ) -> tuple[mx.array, mx.array]:
        def loss_of(h: mx.array) -> mx.array:
            return self._chunk_loss(h, targets, weights)

        (value,), (gradient,) = mx.vjp(loss_of, [hidden], [mx.array(1.0)])
        return value, gradient

    def _chunks(
        self, tokens: npt.NDArray[np.int32], trained: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[mx.array, mx.array, mx.array]]:
        """Trained positions in flat places, their targets ``[1, C]`` and weights ``[1, C]``."""
        places = np.flatnonzero(trained)
        targets = tokens[:, 1:].reshape(-1)
        for start in range(0, len(places), self._chunk):
            chunk = places[start : start + self._chunk]
            count = self._padded(len(chunk)) if self._pads else len(chunk)
            padded = np.resize(chunk, count)
            weights = (np.arange(count) < len(chunk)).astype(np.float32)
            yield mx.array(padded), mx.array(targets[padded])[None], mx.array(weights)[None]

    def _padded(self, count: int) -> int:
        """A few sizes only, so that few are compiled."""
        size = SMALLEST_CHUNK
        while size < count:
            size *= 2
        return min(size, self._chunk)
