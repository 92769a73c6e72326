"""From ``RUN[@iteration]`` to files: which adapter, and the base that it belongs to. No MLX."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine import checkpoint
from engine.config import RunConfig, validate
from engine.errors import DamagedError, InputError, ModelError
from engine.model_files import find_model
from engine.runs import RunDirectory, find_run
from engine.tensors import checksum

if TYPE_CHECKING:
    from engine.model_files import ModelFiles

_AT = re.compile(r"(.+)@([\d,]+|best|latest)")
_NUMBERED = re.compile(r"(\d{7,})_adapters\.safetensors")
_LONGEST_HEADER = 100_000_000
"""Bytes that no safetensors header exceeds (https://huggingface.co/docs/safetensors)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """An adapter on disk, of a run or as mlx-lm left it."""

    label: str
    """What people call it: ``RUN@500``."""
    folder: Path
    """The folder with ``adapter_config.json``."""
    file: Path
    """The weights."""
    config: RunConfig
    """What it was trained with, as far as its folder says; its model is the base to use."""
    iteration: int | None
    """None where nobody wrote it down."""
    directory: RunDirectory | None
    """The run that made it; None for an adapter of mlx-lm."""
    facts: dict[str, Any] | None = None
    """What its checkpoint knows of itself; None where there is only the weights file."""

    @property
    def is_full(self) -> bool:
        """Whether whole layers were trained rather than adapters."""
        return self.config.fine_tune_type == "full"


def choose(name: str, model: str | None = None) -> Chosen:
    """Find an adapter by ``RUN``, ``RUN@500``, ``RUN@best``, or a folder that mlx-lm trained.

    Without an iteration it is the newest one.

    Args:
        name: the run's name or folder, or the adapter's folder.
        model: another base than the one that the adapter names.

    Raises:
        InputError: when there is no such run or checkpoint, or its settings cannot be read.
        DamagedError: when its file is not what was written.
    """
    match = _AT.fullmatch(name)
    where, wish = name, "latest"
    # A folder may have such a name itself.
    if match is not None and not Path(name).expanduser().is_dir():
        where, wish = match[1], match[2].replace(",", "")
    folder, directory = _folder_of(where)
    called = directory.name if directory else where.rstrip("/")
    file = _file_of(folder, wish, called)
    iteration = _iteration_of(file)
    config = _config_of(folder)
    return Chosen(
        label=called if iteration is None else f"{called}@{iteration}",
        folder=folder,
        file=file,
        config=config.model_copy(update={"model": model}) if model else config,
        iteration=iteration,
        directory=directory,
        facts=_facts_of(folder, file, iteration),
    )


def siblings(chosen: Chosen) -> list[Chosen]:
    """Return all checkpoints beside one, by iteration; itself where there are no others."""
    found: list[Chosen] = []
    for iteration in known_iterations(chosen.folder):
        name = chosen.label.rpartition("@")[0] or chosen.label
        file = chosen.folder / checkpoint.checkpoint_name(iteration)
        facts = _facts_of(chosen.folder, file, iteration, is_checked=False)
        label = f"{name}@{iteration}"
        found.append(replace(chosen, label=label, file=file, iteration=iteration, facts=facts))
    return found or [chosen]


def known_iterations(folder: Path) -> list[int]:
    """Return the iterations that a folder has adapters of, whoever trained them."""
    names = (_NUMBERED.fullmatch(path.name) for path in folder.glob("*_adapters.safetensors"))
    return sorted(int(match[1]) for match in names if match)


def base_files(chosen: Chosen) -> ModelFiles:
    """Return the files of an adapter's base.

    Raises:
        ModelError: when the base is gone.
    """
    try:
        return find_model(chosen.config)
    except ModelError as error:
        raise ModelError(
            f"The base model of {chosen.label} is not there: {error.message}",
            "Put it back, or say where it is now with --model.",
        ) from error


def other_base(chosen: Chosen, files: ModelFiles) -> str:
    """Say when a checkpoint was trained on other weights than these; nothing when not known."""
    expected = chosen.facts["fingerprints"].get("model") if chosen.facts else None
    if not expected or expected == files.fingerprint():
        return ""
    return (
        f"{chosen.label} was not trained on the weights in {files.path}: answers and losses "
        "are those of a mixture."
    )


def _folder_of(name: str) -> tuple[Path, RunDirectory | None]:
    path = Path(name).expanduser()
    if (path / checkpoint.ADAPTER_CONFIG).is_file():
        run = RunDirectory(path.absolute().parent)
        return path, run if run.adapters == path.absolute() and run.journal_file.is_file() else None
    if path.is_dir() and not (path / "events.jsonl").is_file():
        raise InputError(
            f"{path} is neither a run nor an adapter: it has no {checkpoint.ADAPTER_CONFIG}.",
            "Give a run's name, or the folder that mlx_lm.lora calls --adapter-path.",
        )
    run = find_run(name)
    return run.adapters, run


def _file_of(folder: Path, wish: str, called: str) -> Path:
    names = {"latest": checkpoint.LATEST, "best": checkpoint.BEST}
    file = folder / (names.get(wish) or checkpoint.checkpoint_name(int(wish)))
    if file.is_file():
        return file
    known = known_iterations(folder)
    if not known and not (folder / checkpoint.LATEST).is_file():
        raise InputError(f"{called} has saved nothing yet.")
    what = "no best checkpoint" if wish == "best" else f"no checkpoint at {int(wish):,}"
    there = ", ".join(f"{i:,}" for i in known) or "only the newest"
    raise InputError(f"{called} has {what}.", f"It has: {there}.")


def _config_of(folder: Path) -> RunConfig:
    path = folder / checkpoint.ADAPTER_CONFIG
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings.")
    found = cast("dict[str, Any]", values)
    return validate({k: v for k, v in found.items() if k in RunConfig.model_fields}, str(path))


def _iteration_of(file: Path) -> int | None:
    """Read it from the name, or from the file's header where we wrote that."""
    if match := _NUMBERED.fullmatch(file.name):
        return int(match[1])
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > _LONGEST_HEADER:
                raise ValueError("its header has no end")
            header: Any = json.loads(opened.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise DamagedError(f"{file} is no whole safetensors file: {error}") from None
    written = header.get("__metadata__", {}).get("iteration")
    return int(written) if written is not None else None


def _facts_of(
    folder: Path, file: Path, iteration: int | None, *, is_checked: bool = True
) -> dict[str, Any] | None:
    """What the checkpoint knows of itself, if it is one of ours.

    Raises:
        DamagedError: when the file is not what was written.
    """
    if iteration is None or not (folder / checkpoint.state_name(iteration)).is_dir():
        return None
    facts = checkpoint.read_facts(folder, iteration)
    written = facts["files"].get(checkpoint.checkpoint_name(iteration))
    if is_checked and written and checksum(file) != written:
        raise DamagedError(
            f"{file} is not what was written.", "Take another checkpoint: RUN@ITERATION."
        )
    return facts
