"""From the name of a run to going on with it: which checkpoint, which settings, which folder."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from engine import checkpoint
from engine.config import load_config, validate
from engine.errors import ConfigError, DamagedError
from engine.lock import check_free
from engine.model_files import check_model
from engine.resume import Resume, check_config, check_left
from engine.runs import RunDirectory, check_writable, find_run, new_run_path, short_name

if TYPE_CHECKING:
    from pathlib import Path

    from engine.config import RunConfig

_AT = re.compile(r"^(.*)@([\d,]+)$")


def prepare_resume(
    name: str | None, changes: dict[str, Any], run_dir: Path | None = None
) -> tuple[RunConfig, RunDirectory, Resume]:
    """Find what to go on with and check all that is cheap to check; creates nothing.

    Args:
        name: a run's name or folder, the newest if None; ``RUN@4500`` begins a new run there.
        changes: settings by key that replace the run's own.
        run_dir: where a new run goes; by default among the runs.

    Raises:
        InputError: when there is no such run, or the settings make it another one.
        RunError: when another process trains it.
    """
    match = _AT.match(name or "")
    source = find_run(match[1] if match else name)
    iteration = int(match[2].replace(",", "")) if match else None
    if iteration is None:
        if run_dir is not None:
            raise ConfigError(
                ["a run goes on in its own folder"],
                hint=f"For a new run give the checkpoint to begin from: {source.name}@ITERATION",
            )
        check_free(source.lock_file)
    config = _config(source, changes)
    check_model(config)
    facts = _newest_facts(source, iteration, config.iters)
    if facts is not None:
        check_config(facts, config)
        check_left(facts, config, source if iteration is None else None)
    if iteration is None:
        return config, source, Resume(source.adapters)
    path = run_dir or new_run_path(config.name or short_name(source.name))
    directory = RunDirectory(path.expanduser().absolute())
    check_writable(directory.path)
    return config, directory, Resume(source.adapters, iteration, f"{source.name}@{iteration}")


def _config(run: RunDirectory, changes: dict[str, Any]) -> RunConfig:
    """The run's settings; from its newest checkpoint when their own file is gone."""
    if run.config_file.is_file():
        return load_config(str(run.config_file), changes)
    facts = _newest_facts(run)
    if facts is None:
        raise ConfigError([f"{run.config_file} is missing, and there is no checkpoint"])
    return validate(facts["config"] | changes, str(run.config_file))


def _newest_facts(
    run: RunDirectory, iteration: int | None = None, iters: int | None = None
) -> dict[str, Any] | None:
    """The facts of the wanted checkpoint, else of the newest that can be read.

    Only a whole one shows that all of ``iters`` is done.
    """
    found = checkpoint.iterations(run.adapters)
    if iteration is not None:
        if iteration not in found:
            known = ", ".join(f"{i:,}" for i in found) or "none"
            raise ConfigError(
                [f"{run.name} has no checkpoint at {iteration:,}"], hint=f"It has: {known}."
            )
        found = [iteration]
    for each in reversed(found):
        try:
            facts = checkpoint.read_facts(run.adapters, each)
            if iters is not None and each >= iters:
                checkpoint.verify(run.adapters, each)
            return facts
        except DamagedError:
            continue
    return None
