"""Where a run goes on: the newest whole checkpoint, and whether it is still the same run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from engine import checkpoint
from engine.config import RunConfig
from engine.errors import CheckpointError, ConfigError, DamagedError
from engine.runs import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.runs import RunDirectory

FREE = frozenset(
    {
        "iters", "val_batches", "steps_per_report", "steps_per_eval", "adapter_path", "save_every",
        "test", "test_batches", "config", "grad_checkpoint", "clear_cache_threshold", "report_to",
        "project_name", "trust_remote_code", "train", "name", "memory_budget_bytes",
        "micro_batch_size", "cache_limit_bytes", "probe", "step", "tail_chunk", "attention",
        "sample_prompts", "sample_max_tokens", "sample_rows", "sample_max_seconds", "keep_last",
        "keep_every", "early_stopping", "on_pressure", "yellow_seconds", "grace_seconds",
        "green_seconds", "deep_pause", "on_hangup",
    }
)  # fmt: skip
"""Settings that may change within a run: the same mathematics, or more of it."""
MADE_OF = {
    "model": "model",
    "revision": "model",
    "data": "data",
    "data_revision": "data",
    "hf_dataset": "data",
    "data_format": "data",
    "validation_split": "data",
}
"""Settings that only say where something comes from, and the name of its fingerprint."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A wish to go on from a checkpoint."""

    folder: Path
    """The adapters of the run that has it."""
    iteration: int | None = None
    """Which one; None means the newest that is whole."""
    parent: str = ""
    """``RUN@4500`` when a new run begins there; empty when that run itself goes on."""


@dataclass(frozen=True, slots=True)
class Point:
    """A verified checkpoint to go on from."""

    folder: Path
    iteration: int
    facts: dict[str, Any]
    damaged: tuple[str, ...] = ()
    """What is wrong with newer ones, in words."""


def find_point(wish: Resume) -> Point | None:
    """Return the checkpoint to go on from; None when the run has none yet.

    Raises:
        CheckpointError: when the wanted one is missing or damaged, or all there are.
    """
    found = checkpoint.iterations(wish.folder)
    if wish.iteration is not None:
        return _exactly(wish.folder, wish.iteration, found)
    damaged: list[str] = []
    for iteration in reversed(found):
        try:
            facts = checkpoint.verify(wish.folder, iteration)
        except DamagedError as error:
            damaged.append(f"The checkpoint at {iteration:,} cannot be used: {error.message}.")
        else:
            return Point(wish.folder, iteration, facts, tuple(damaged))
    if damaged:
        raise CheckpointError(
            "\n".join(damaged), "No checkpoint of this run is whole; start it anew."
        )
    return None


def _exactly(folder: Path, iteration: int, found: Sequence[int]) -> Point:
    if iteration not in found:
        known = ", ".join(f"{i:,}" for i in found) or "none"
        raise CheckpointError(
            f"There is no checkpoint at {iteration:,}.", f"There are these: {known}."
        )
    try:
        return Point(folder, iteration, checkpoint.verify(folder, iteration))
    except DamagedError as error:
        others = ", ".join(f"{i:,}" for i in found if i != iteration) or "none"
        raise CheckpointError(
            f"The checkpoint at {iteration:,} cannot be used: {error.message}.",
            f"Others of this run: {others}.",
        ) from error


def check_config(facts: dict[str, Any], config: RunConfig) -> list[str]:
    """Compare settings with those that a checkpoint was made with.

    Returns:
        What changed and may, in words.

    Raises:
        ConfigError: listing what changed and may not.
    """
    before = _settings(facts)
    now: dict[str, Any] = config.model_dump(mode="json")
    refused: list[str] = []
    changed: list[str] = []
    for key, value in now.items():
        if key in MADE_OF or before.get(key) == value:
            continue
        (changed if key in FREE else refused).append(f"{key}: {before.get(key)} → {value}")
    if refused:
        raise ConfigError(
            refused,
            hint="With these it is another run. Start a new one from this run's adapters: "
            "--set resume_adapter_file=…/adapters.safetensors",
        )
    return changed


def check_left(facts: dict[str, Any], config: RunConfig, run: RunDirectory | None) -> None:
    """Check that something is left to do after a checkpoint.

    Args:
        facts: the checkpoint's.
        config: the settings to go on with.
        run: the one that goes on; None when another one begins there.

    Raises:
        ConfigError: when nothing is. A run that was killed after its last iteration, before it
            said that it was complete, is still to be tested and ended.
    """
    done = facts["iteration"]
    if done < config.iters:
        return
    if done == config.iters and run is not None and summarise(run).status != "completed":
        return
    raise ConfigError(
        [f"iters: {done:,} of {config.iters:,} iterations are done"],
        hint=f"To train on, give more: --set iters={2 * done}",
    )


def check_fingerprints(facts: dict[str, Any], now: dict[str, str]) -> list[str]:
    """Compare model and data with those that a checkpoint was made with.

    Returns:
        What changed and may, in words.

    Raises:
        ConfigError: when the run cannot go on with these.
    """
    before = facts["fingerprints"]
    problems = [
        f"{name}: not the same as at iteration {facts['iteration']:,}"
        for name in dict.fromkeys(MADE_OF.values())
        if before.get(name) != now[name]
    ]
    if problems:
        raise ConfigError(
            problems,
            hint="Give the same ones with --model and --data, and the same hf_dataset, data_format "
            "and validation_split; or start a new run from this run's adapters: "
            "--set resume_adapter_file=…/adapters.safetensors",
        )
    name = "validation data"
    if before.get(name) != now[name]:
        return [f"{name}: changed, so that earlier validation losses do not compare"]
    return []


def changed_versions(facts: dict[str, Any], now: dict[str, str]) -> list[str]:
    """Return which versions changed, in words: numbers may then differ in the last digits."""
    before = cast("dict[str, str]", facts["versions"])
    return [
        f"{name} {before.get(name, 'none')} → {version}"
        for name, version in now.items()
        if before.get(name) != version
    ]


def _settings(facts: dict[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint, with this version's defaults for those it does not know."""
    known = {key: value for key, value in facts["config"].items() if key in RunConfig.model_fields}
    return RunConfig().model_dump(mode="json") | known
