"""Writes adapters under mlx-lm's names, each appearing whole and durable or not at all."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from engine.errors import CheckpointError
from engine.files import appearing, write_text

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import RunConfig

LATEST = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"


def checkpoint_name(iteration: int) -> str:
    """Return mlx-lm's name for the adapters of an iteration."""
    return f"{iteration:07d}_adapters.safetensors"


def write_adapter_config(folder: Path, config: RunConfig) -> None:
    """Write what mlx-lm needs to attach the adapters again.

    Raises:
        CheckpointError: when it cannot be written.
    """
    values: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    if config.fine_tune_type == "full":
        values["lora_parameters"] = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / ADAPTER_CONFIG, json.dumps(dict(sorted(values.items())), indent=4))
    except OSError as error:
        raise _failed(folder, error) from error


def save_adapters(folder: Path, iteration: int, arrays: dict[str, mx.array]) -> Path:
    """Write an iteration's adapters, and make them the latest.

    Args:
        folder: the run's adapters.
        iteration: the last one done.
        arrays: the trained arrays by their path in the model.

    Returns:
        The checkpoint's file.

    Raises:
        CheckpointError: when the disk is full or cannot be written; what was there stays whole.
    """
    path = folder / checkpoint_name(iteration)
    try:
        with appearing(path) as temporary:
            mx.save_safetensors(
                str(temporary), arrays, {"format": "mlx", "iteration": str(iteration)}
            )
        with appearing(folder / LATEST) as temporary:
            _link_or_copy(path, temporary)
    except (OSError, RuntimeError) as error:
        raise _failed(folder, error) from error
    return path


def publish(folder: Path, destination: Path) -> None:
    """Copy the latest adapters to the folder that the config named as ``adapter_path``.

    Raises:
        CheckpointError: when it cannot be written.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
        for name in (ADAPTER_CONFIG, LATEST):
            with appearing(destination / name) as temporary:
                shutil.copyfile(folder / name, temporary)
    except OSError as error:
        raise _failed(destination, error) from error


def _link_or_copy(source: Path, destination: Path) -> None:
    """A link costs nothing; file systems without links get a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def _failed(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The adapters could not be written to {folder}: {error}",
        "Free space there, or make it writable; what was saved before is intact.",
    )
