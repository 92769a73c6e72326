"""Answers what the screens ask of the disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.errors import RunError
from tui.draft import SETTINGS
from tui.records import READ_ONLY, STEER, CheckpointFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.runs import RunDirectory
    from tui.fuse import FuseScreen


def fuse_screen(run: str, iteration: int) -> FuseScreen:
    """Make the screen that fuses a run's checkpoint, whose code is loaded only then."""
    from tui.fuse import FuseScreen

    return FuseScreen(run, iteration)


class RunRecords:
    """The runs on this machine, by their folders."""

    def checkpoint(self, path: str, iteration: int) -> CheckpointFacts | None:
        """Return what a checkpoint says of itself; None if it is damaged or gone."""
        from engine.checkpoint import read_facts
        from engine.errors import DamagedError

        try:
            facts = read_facts(_run(path).adapters, iteration)
        except DamagedError:
            return None
        position = cast("dict[str, Any]", facts.get("position", {}))
        return CheckpointFacts(
            iteration,
            position.get("val_loss"),
            int(position.get("trained_tokens", 0)),
            tuple(_settings(cast("dict[str, Any]", facts.get("config", {})))),
        )

    def delete_checkpoint(self, path: str, iteration: int) -> None:
        """Delete one checkpoint.

        Raises:
            RunError: when it cannot be, or the run is in training.
        """
        from engine.deleting import delete_checkpoint

        delete_checkpoint(_run(path), iteration)

    def run_bytes(self, path: str) -> int:
        """Return what a run takes on disk."""
        from engine.deleting import folder_bytes

        return folder_bytes(Path(path))

    def delete_run(self, path: str) -> int:
        """Delete a run, and return the bytes that came back.

        Raises:
            RunError: when it cannot be, or it is in training.
        """
        from engine.deleting import delete_run

        return delete_run(_run(path))


class LookedAtRecords(RunRecords):
    """The same for somebody who may only look."""

    def delete_checkpoint(self, path: str, iteration: int) -> None:
        """Refuse to.

        Raises:
            RunError: always.
        """
        del path, iteration
        raise RunError(READ_ONLY, STEER)

    def delete_run(self, path: str) -> int:
        """Refuse to.

        Raises:
            RunError: always.
        """
        del path
        raise RunError(READ_ONLY, STEER)


def _run(path: str) -> RunDirectory:
    from engine.runs import RunDirectory

    return RunDirectory(Path(path))


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for setting in SETTINGS:
        value: Any = config
        for key in setting.key.split("."):
            value = cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
        words = "automatic" if value is None else str(value)
        found.append((setting.label, words))
    return found
