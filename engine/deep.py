"""Gives a run's base weights back while it stands still, and loads them again to go on."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import mlx.core as mx

from engine.errors import RunError
from engine.model import load_frozen
from engine.model_files import find_model
from engine.parts import slots_of
from engine.step import LayerStep
from engine.trees import trainable

if TYPE_CHECKING:
    from engine.parts import Slot
    from engine.prepare import Prepared


def put_away(prepared: Prepared) -> None:
    """Drop all weights that are not trained; adapters, moments and gradients stay."""
    slots = _frozen(prepared)
    _replace(prepared, slots, dict.fromkeys(slots, mx.array(0)))
    # What was compiled hangs in cycles.
    gc.collect()


def bring_back(prepared: Prepared) -> None:
    """Load the weights that were put away from the model's files.

    Raises:
        ModelError: when they cannot be loaded.
        RunError: when they are not those that the run began with.
    """
    config = prepared.config
    files = find_model(config)
    if files.fingerprint() != prepared.fingerprints["model"]:
        raise _changed(config.model)
    fresh, _ = load_frozen(config, files)
    loaded = {slot.path: slot for slot in slots_of(fresh)}
    slots = _frozen(prepared)
    if not slots.keys() <= loaded.keys():
        raise _changed(config.model)
    _replace(prepared, slots, {path: loaded[path].get() for path in slots})
    mx.eval([slot.get() for slot in slots.values()])


def _frozen(prepared: Prepared) -> dict[str, Slot]:
    model = prepared.adapted.model
    trained = set(trainable(model))
    return {slot.path: slot for slot in slots_of(model) if slot.path not in trained}


def _replace(prepared: Prepared, slots: dict[str, Slot], arrays: dict[str, mx.array]) -> None:
    for path, slot in slots.items():
        slot.put(arrays[path])
    if isinstance(prepared.stepper, LayerStep):
        prepared.stepper.read_frozen()


def _changed(model: str) -> RunError:
    return RunError(
        f"{model} is not the model any more that this run was training.",
        "Put its files back as they were, and resume. What was saved before is intact.",
    )
