"""MLX's optimisers with mlx-lm's settings, a layer at a time so that little lives twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx
import mlx.optimizers as optim
from mlx import utils

from engine.errors import ConfigError
from engine.parts import slots_of
from engine.trees import flatten, number, trainable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import mlx.nn as nn

    from engine.config import RunConfig

_CLASSES = {
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "muon": optim.Muon,
    "sgd": optim.SGD,
    "adafactor": optim.Adafactor,
}


class Updater:
    """Applies accumulated gradients to a model's trained arrays.

    Raises:
        ConfigError: when the optimiser does not know a setting in ``optimizer_config``, or the
            schedule's arguments do not suit it.
    """

    def __init__(self, model: nn.Module, config: RunConfig, *, is_compiled: bool = False) -> None:
        self._max_norm = config.max_grad_norm
        name = config.optimizer
        try:
            self._optimizer: Any = _CLASSES[name](
                learning_rate=_learning_rate(config), **config.optimizer_config.get(name, {})
            )
        except (TypeError, ValueError) as error:
            raise ConfigError([f"optimizer_config.{name}: {error}"]) from None
        arrays = trainable(model)
        # A flat tree, so that any part of it can be updated on its own.
        self._optimizer.init(arrays)
        mx.eval(self._optimizer.state)
        self._slots = {slot.path: slot for slot in slots_of(model) if slot.path in arrays}
        self._groups = _by_layer(arrays)
        compile_: Callable[[Any], Any] = mx.compile if is_compiled else lambda f: f
        self._squares = compile_(_sum_of_squares)
        self._update = compile_(self._updated)

    @property
    def learning_rate(self) -> float:
        """The rate of the newest update, or of the first when there was none."""
        return number(self._optimizer.learning_rate)

    @property
    def updates(self) -> int:
        """Updates made so far."""
        return int(number(self._optimizer.step))

    @property
    def state(self) -> dict[str, mx.array]:
        """Everything that the next update depends on besides the parameters, by path."""
        return flatten(self._optimizer.state)

    @state.setter
    def state(self, arrays: dict[str, mx.array]) -> None:
        def found(path: str, _: mx.array) -> mx.array:
            return arrays[path]

        self._optimizer.state = utils.tree_map_with_path(found, self._optimizer.state)

    def put(self, parameters: dict[str, mx.array]) -> None:
        """Replace the model's trained arrays, all of them, by path."""
        for name, slot in self._slots.items():
            slot.put(parameters[name])

    @property
    def state_bytes(self) -> int:
        """What the optimiser's moments take."""
        return sum(array.nbytes for array in self.state.values())

    def is_finite(self, gradients: dict[str, mx.array]) -> bool:
        """Whether a batch's gradients are numbers; ``apply`` looks at what was added up only."""
        squares = [
            self._squares([gradients[name] for name in names])
            for names in self._groups
            if names[0] in gradients
        ]
        return not squares or number(mx.sum(mx.stack(squares))) < float("inf")

    def apply(self, gradients: dict[str, mx.array], tokens: int) -> float:
        """Update the model with the mean gradient, unless it is not finite.

        Args:
            gradients: sums over trained tokens, by path; emptied as they are used.
            tokens: how many tokens the sums are over.

        Returns:
            The mean gradient's norm before clipping; when it is not finite nothing was changed.
        """
        squares = [self._squares([gradients[name] for name in names]) for names in self._groups]
        norm = number(mx.sqrt(mx.sum(mx.stack(squares)))) / tokens
        if not norm < float("inf"):
            gradients.clear()
            return norm
        factor = 1.0 / tokens
        if self._max_norm is not None and norm > self._max_norm:
            factor *= self._max_norm / norm
        self._begin_update()
        state = self._optimizer.state
        scalars = (state["learning_rate"], state["step"], mx.array(factor))
        for names in self._groups:
            slots = [self._slots[name] for name in names]
            updated, moments = self._update(
                [gradients.pop(name) for name in names],
                [slot.get() for slot in slots],
                [state[name] for name in names],
                *scalars,
            )
            for name, slot, array, moment in zip(names, slots, updated, moments, strict=True):
                slot.put(array)
                state[name] = moment
            mx.async_eval(updated, moments)
        mx.eval(state, [slot.get() for slot in self._slots.values()])
        return norm

    def _begin_update(self) -> None:
        """What ``Optimizer.apply_gradients`` does once before it goes through the arrays."""
        optimizer = self._optimizer
        for name, schedule in optimizer._schedulers.items():
            optimizer.state[name] = schedule(optimizer.step)
        optimizer.state["step"] = optimizer.step + 1

    def _updated(
        self,
        gradients: list[mx.array],
        parameters: list[mx.array],
        moments: list[dict[str, mx.array]],
        learning_rate: mx.array,
        step: mx.array,
        factor: mx.array,
    ) -> tuple[list[mx.array], list[dict[str, mx.array]]]:
        """A group's new parameters and moments; what is no input, a trace would keep for good."""
        state = self._optimizer.state
        held = {"learning_rate": state["learning_rate"], "step": state["step"]}
        state.update(learning_rate=learning_rate, step=step)
        try:
            updated = [
                self._optimizer.apply_single(
                    gradient * factor.astype(gradient.dtype), parameter, moment
                )
                for gradient, parameter, moment in zip(gradients, parameters, moments, strict=True)
            ]
        finally:
            state.update(held)
        return updated, moments


def _sum_of_squares(gradients: list[mx.array]) -> mx.array:
    return mx.sum(mx.stack([mx.square(g.astype(mx.float32)).sum() for g in gradients]))


def _by_layer(names: Iterable[str]) -> list[list[str]]:
    """Group paths by layer: groups of one shape share a trace, and little lives twice at a time."""
    groups: dict[str, list[str]] = {}
    for name in names:
        layer = re.match(r".*?\.\d+\.", name)
        groups.setdefault(layer[0] if layer else "", []).append(name)
    return list(groups.values())


def _learning_rate(config: RunConfig) -> Any:
    if config.lr_schedule is None:
        return config.learning_rate
    from mlx_lm.tuner import utils

    try:
        return cast("Any", utils).build_schedule(config.lr_schedule.model_dump())
    except (TypeError, ValueError, IndexError) as error:
        given = config.lr_schedule
        raise ConfigError(
            [f"lr_schedule.arguments: {given.arguments} do not suit {given.name}: {error}"],
            hint=f"They are passed on in this order to mlx.optimizers.{given.name}.",
        ) from None
