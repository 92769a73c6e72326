"""Checkpoints as files: written whole and durable or not at all, listed, verified and pruned.

A checkpoint is ``0000500_adapters.safetensors``, mlx-lm's own name, and beside it a folder
``0000500_state`` with what exact resume needs besides: the optimiser's moments, the gradients
accumulated so far, and ``state.json``, which has the plain facts and every file's checksum. The
folder appears last, so that a checkpoint is there when its folder is. No MLX in here: only bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from engine.errors import CheckpointError, DamagedError, DiskFullError
from engine.files import (
    TEMPORARY,
    appearing,
    appearing_folder,
    put_back,
    sync,
    temporary_name,
    write_text,
)
from engine.tensors import Tensor, checksum, write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from engine.config import RunConfig

LATEST, BEST = "adapters.safetensors", "best.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER, GRADIENTS, FACTS = "optimizer.safetensors", "gradients.safetensors", "state.json"
FORMAT = 1
RESERVE_BYTES = 16_000_000
"""Left free beside a checkpoint, for the journal and what other programs write meanwhile."""
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a run, as bytes and plain facts."""

    iteration: int
    adapters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    gradients: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Accumulated since the last update; empty right after one."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    """JSON values."""

    @property
    def nbytes(self) -> int:
        """What the files take, within a few kilobytes."""
        groups = (self.adapters, self.optimizer, self.gradients)
        return sum(tensor.data.nbytes for group in groups for tensor in group.values())


def checkpoint_name(iteration: int) -> str:
    """Return mlx-lm's name for the adapters of an iteration."""
    return f"{iteration:07d}_adapters.safetensors"


def state_name(iteration: int) -> str:
    """Return the name of the folder with what exact resume needs besides the adapters."""
    return f"{iteration:07d}_state"


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
        raise _failed(folder, error, 0) from error


def write(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint and make it the latest.

    Returns:
        The adapters' file.

    Raises:
        DiskFullError: when there is too little space; what was there stays whole.
        CheckpointError: when it cannot be written for another reason; the same.
    """
    check_space(folder, snapshot.nbytes)
    path = folder / checkpoint_name(snapshot.iteration)
    try:
        with appearing(path) as temporary:
            metadata = {"format": "mlx", "iteration": str(snapshot.iteration)}
            sums = {path.name: write_tensors(temporary, snapshot.adapters, metadata)}
        _write_state(folder, snapshot, sums)
        _link(path, folder / LATEST)
    except OSError as error:
        raise _failed(folder, error, snapshot.nbytes) from error
    return path


def mark_best(folder: Path, iteration: int) -> None:
    """Make a checkpoint's adapters ``best.safetensors``.

    Raises:
        CheckpointError: when it cannot be written.
    """
    _mark(folder, iteration, BEST)


def mark_latest(folder: Path, iteration: int) -> None:
    """Make a checkpoint's adapters ``adapters.safetensors``.

    Raises:
        CheckpointError: when it cannot be written.
    """
    _mark(folder, iteration, LATEST)


def iterations(folder: Path) -> list[int]:
    """Return the iterations that have a checkpoint, ascending; nothing is verified."""
    if not folder.is_dir():
        return []
    matches = (re.fullmatch(r"(\d{7,})_state", path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def read_facts(folder: Path, iteration: int) -> dict[str, Any]:
    """Return the plain facts of a checkpoint.

    Raises:
        DamagedError: when they are missing or not what was written.
    """
    path = folder / state_name(iteration) / FACTS
    try:
        values: Any = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path.name} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise DamagedError(f"{path.name} holds no facts")
    facts = cast("dict[str, Any]", values)
    if facts.pop("checksum", None) != _checksum_of(facts):
        raise DamagedError(f"{path.name} is not what was written")
    if facts.get("format") != FORMAT:
        raise DamagedError(f"it was written by another version (format {facts.get('format')})")
    return facts


def verify(folder: Path, iteration: int) -> dict[str, Any]:
    """Check every file of a checkpoint against its checksum, and return the plain facts.

    Raises:
        DamagedError: saying which file is damaged or missing.
    """
    facts = read_facts(folder, iteration)
    for name, expected in facts["files"].items():
        path = _place(folder, iteration, name)
        try:
            found = checksum(path)
        except OSError as error:
            raise DamagedError(f"{name} cannot be read: {error.strerror}") from error
        if found != expected:
            raise DamagedError(f"{name} is damaged ({path.stat().st_size:,} bytes)")
    return facts


def prune(folder: Path, kept: Iterable[int]) -> list[int]:
    """Delete the checkpoints that are not to be kept, and return their iterations.

    Raises:
        OSError: when the system refuses.
    """
    removed = sorted(set(iterations(folder)) - set(kept))
    for iteration in removed:
        remove(folder, iteration)
    return removed


def remove(folder: Path, iteration: int) -> None:
    """Delete one checkpoint; half deleted, it is one no more.

    Raises:
        OSError: when the system refuses.
    """
    state = folder / state_name(iteration)
    if state.exists():
        gone = temporary_name(state)
        state.rename(gone)
        shutil.rmtree(gone)
    (folder / checkpoint_name(iteration)).unlink(missing_ok=True)


def chosen_to_keep(found: Iterable[int], last: int, every: int | None, best: int) -> set[int]:
    """Return which checkpoints to keep: the last few, the best, and every so many iterations."""
    ordered = sorted(found)
    kept = set(ordered[-last:]) | ({best} & set(ordered))
    return kept | {i for i in ordered if every and i % every == 0}


def adopt(source: Path, iteration: int, folder: Path) -> None:
    """Make another run's checkpoint one of this folder's.

    Raises:
        DiskFullError: when there is too little space.
        CheckpointError: when it cannot be written.
    """
    state, target = source / state_name(iteration), folder / state_name(iteration)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _link(source / checkpoint_name(iteration), folder / checkpoint_name(iteration))
        with appearing_folder(target) as temporary:
            for path in state.iterdir():
                _link_or_copy(path, temporary / path.name)
    except OSError as error:
        raise _failed(folder, error, 0) from error


def clean(folder: Path) -> list[str]:
    """Remove what a killed process left half-written or half-replaced, and return the names.

    Raises:
        OSError: when the system refuses.
    """
    left = sorted(folder.glob(f"{TEMPORARY}*")) if folder.is_dir() else []
    for path in left:
        if put_back(path):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return [path.name for path in left]


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
        raise _failed(destination, error, (folder / LATEST).stat().st_size) from error


def check_space(folder: Path, needed_bytes: int) -> None:
    """Check that there is space for so much and a little more.

    Raises:
        DiskFullError: when there is not.
    """
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < needed_bytes + RESERVE_BYTES:
        raise DiskFullError(folder, needed_bytes + RESERVE_BYTES, free)


def _write_state(folder: Path, snapshot: Snapshot, sums: dict[str, str]) -> None:
    with appearing_folder(folder / state_name(snapshot.iteration)) as temporary:
        for name, tensors in ((OPTIMIZER, snapshot.optimizer), (GRADIENTS, snapshot.gradients)):
            if tensors:
                sums[name] = write_tensors(temporary / name, tensors, {"format": "mlx"})
                sync(temporary / name)
        facts = {
            "format": FORMAT,
            "iteration": snapshot.iteration,
            "files": sums,
            **snapshot.facts,
        }
        facts["checksum"] = _checksum_of(facts)
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False, indent=1)
        (temporary / FACTS).write_text(text, encoding="utf-8")
        sync(temporary / FACTS)


def _place(folder: Path, iteration: int, name: str) -> Path:
    is_state = name in {OPTIMIZER, GRADIENTS}
    return folder / state_name(iteration) / name if is_state else folder / name


def _checksum_of(facts: dict[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _mark(folder: Path, iteration: int, name: str) -> None:
    try:
        _link(folder / checkpoint_name(iteration), folder / name)
    except OSError as error:
        raise _failed(folder, error, 0) from error


def _link(source: Path, destination: Path) -> None:
    with appearing(destination) as temporary:
        _link_or_copy(source, temporary)


def _link_or_copy(source: Path, destination: Path) -> None:
    """A link costs nothing; file systems without links get a copy."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)


def _failed(folder: Path, error: OSError, needed_bytes: int) -> CheckpointError:
    if error.errno in FULL_DISK:
        free = shutil.disk_usage(folder).free if folder.exists() else 0
        return DiskFullError(folder, needed_bytes + RESERVE_BYTES, free)
    return CheckpointError(
        f"The adapters could not be written to {folder}: {error}",
        "Make it writable; what was saved before is intact.",
    )
