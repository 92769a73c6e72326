"""mlx's optimisers with mlx-lm's settings, updating a layer at a time so that little lives twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from engine.errors import ConfigError

if TYPE_CHECKING:
    import mlx.nn as nn

    from engine.config import RunConfig

_CLASSES = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "muon": optim.Muon,
    "sgd": optim.SGD,
    "adafactor": optim.Adafactor,
}
_ARRAYS_AT_ONCE = 16
"""About one layer's adapters."""


class Updater:
    """Applies accumulated gradients to a model's trained arrays.

    Raises:
        ConfigError: when the optimiser does not know a setting in ``optimizer_config``, or the
            schedule's arguments do not suit it.
    """

    def __init__(self, model: nn.Module, config: RunConfig) -> None:
        self._model = model
        self._max_norm = config.max_grad_norm
        name = config.optimizer
        try:
            self._optimizer = _CLASSES[name](
                learning_rate=_learning_rate(config), **config.optimizer_config.get(name, {})
            )
        except TypeError as error:
            raise ConfigError([f"optimizer_config.{name}: {error}"]) from None
        flat = dict(cast("list[tuple[str, mx.array]]", tree_flatten(model.trainable_parameters())))
        # A flat tree, so that any part of it can be updated on its own.
        self._optimizer.init(flat)
        mx.eval(self._optimizer.state)

    @property
    def learning_rate(self) -> float:
        """The rate of the newest update, or of the first when there was none."""
        return float(cast("mx.array", self._optimizer.learning_rate).item())

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return int(cast("mx.array", self._optimizer.step).item())

    @property
    def state_bytes(self) -> int:
        """What the optimiser's moments take."""
        return sum(a.nbytes for _, a in cast("list[Any]", tree_flatten(self._optimizer.state)))

    def apply(self, gradients: dict[str, mx.array], tokens: int) -> float:
        """Update the model with the mean gradient, unless it is not finite.

        Args:
            gradients: sums over trained tokens; emptied as they are used.
            tokens: how many tokens the sums are over.

        Returns:
            The mean gradient's norm before clipping; when it is not finite nothing was changed.
        """
        squares = mx.array(0.0)
        for gradient in gradients.values():
            squares = squares + mx.square(gradient.astype(mx.float32)).sum()
        norm = float(mx.sqrt(squares).item()) / tokens
        if not norm < float("inf"):
            gradients.clear()
            return norm
        factor = 1.0 / tokens
        if self._max_norm is not None and norm > self._max_norm:
            factor *= self._max_norm / norm
        self._begin_update()
        names = list(gradients)
        state = cast("dict[str, Any]", self._optimizer.state)
        for start in range(0, len(names), _ARRAYS_AT_ONCE):
            some = {name: gradients.pop(name) * factor for name in names[start : start + _ARRAYS_AT_ONCE]}
            parameters = dict(tree_flatten(self._model.trainable_parameters()))
            updated = tree_map(self._optimizer.apply_single, some, parameters, state)
            self._model.update(tree_unflatten(list(updated.items())))
            del some, parameters
            mx.eval(updated, [state[name] for name in updated])
        mx.eval(self._optimizer.state)
        return norm

    def _begin_update(self) -> None:
        """What ``Optimizer.apply_gradients`` does once before it goes through the arrays."""
        optimizer = self._optimizer
        state = cast("dict[str, Any]", optimizer.state)
        for name, schedule in cast("Any", optimizer)._schedulers.items():
            state[name] = schedule(optimizer.step)
        state["step"] = optimizer.step + 1


def _learning_rate(config: RunConfig) -> Any:
    if config.lr_schedule is None:
        return config.learning_rate
    from mlx_lm.tuner.utils import build_schedule

    try:
        return cast("Any", build_schedule)(config.lr_schedule.model_dump())
    except (TypeError, IndexError) as error:
        raise ConfigError([f"lr_schedule.arguments: {error}"]) from None
