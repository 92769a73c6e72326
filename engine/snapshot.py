"""A run's arrays as a checkpoint holds them: taken out of the model, and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import mlx.core as mx

from engine.checkpoint import GRADIENTS, OPTIMIZER, Snapshot, checkpoint_name, state_name
from engine.errors import DamagedError
from engine.tensors import Tensor
from engine.trees import trainable

if TYPE_CHECKING:
    from pathlib import Path

    from engine.optimizer import Updater
    from engine.prepare import Prepared

    Arrays = dict[str, mx.array]

_NAMES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.int32: "I32",
    mx.int64: "I64",
    mx.uint32: "U32",
    mx.uint64: "U64",
}
"""What the safetensors format calls MLX's types."""


def take(prepared: Prepared, iteration: int, gradients: Arrays, facts: dict[str, Any]) -> Snapshot:
    """Return the run as it is now; the snapshot shares its arrays' memory and copies nothing.

    Args:
        prepared: the run.
        iteration: the last one done.
        gradients: accumulated since the last update.
        facts: JSON values that belong to this moment.
    """
    groups = (trainable(prepared.adapted.model), prepared.updater.state, gradients)
    tensors = [tensors_of(group) for group in groups]
    return Snapshot(iteration, *tensors, facts=facts)


def restore(folder: Path, iteration: int, prepared: Prepared) -> Arrays:
    """Put a verified checkpoint's arrays back into the model and the optimiser.

    Returns:
        The accumulated gradients.

    Raises:
        DamagedError: when its arrays are not those of this model and optimiser.
    """
    state = folder / state_name(iteration)
    adapters = _load(folder / checkpoint_name(iteration))
    moments = _load(state / OPTIMIZER)
    path = state / GRADIENTS
    gradients = _load(path) if path.exists() else {}
    model, updater = prepared.adapted.model, prepared.updater
    _compare("adapters", adapters, trainable(model))
    _compare("optimiser state", moments, updater.state)
    if gradients:
        _compare("gradients", gradients, trainable(model))
    mx.eval(adapters, moments, gradients)
    _put(updater, adapters, moments)
    return gradients


def tensors_of(arrays: Arrays) -> dict[str, Tensor]:
    """Return evaluated views of arrays, by name in a fixed order."""
    plain: Arrays = {}
    for name in sorted(arrays):
        array = arrays[name]
        # Python has no name for this type, only for its bits.
        bits = array.view(mx.uint16) if array.dtype == mx.bfloat16 else array
        plain[name] = mx.contiguous(bits)
    mx.eval(plain)
    return {
        name: Tensor(_NAMES[arrays[name].dtype], tuple(array.shape), memoryview(cast("Any", array)))
        for name, array in plain.items()
    }


def _put(updater: Updater, adapters: Arrays, moments: Arrays) -> None:
    updater.put(adapters)
    updater.state = moments


def _load(path: Path) -> Arrays:
    return cast("Arrays", mx.load(str(path)))


def _compare(what: str, found: Arrays, expected: Arrays) -> None:
    if found.keys() != expected.keys():
        names = sorted(found.keys() ^ expected.keys())
        raise DamagedError(f"its {what} are of another model ({names[0]} is in one only)")
    for name, array in found.items():
        if array.shape != expected[name].shape or array.dtype != expected[name].dtype:
            raise DamagedError(
                f"its {what} are of another model ({name}: {array.shape}, not "
                f"{expected[name].shape})"
            )
