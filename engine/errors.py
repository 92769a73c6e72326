"""The exceptions that the engine raises on purpose.

* LoraTuiError              what happened, and what to do next
  + InputError              something the person gave is not right (exit code 2)
    - ConfigError           settings: unknown names, wrong types, impossible values
    - DataError             rows: a file and, where there is one, a line or row
    - ModelError            the model's folder or name
    - DownloadNeededError   what is on the hub was to be used as far as it is here, and is not
  + RunError                the run could not go on (exit code 1)
    - CheckpointError       a checkpoint could not be written
      . DiskFullError       because there is too little space
    - DamagedError          a checkpoint on disk is not what was written
    - DownloadError         a download broke off
    - RunBusyError          another process is training this run
    - DeviceError           the GPU gave up; what is in memory is worthless, checkpoints are not
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


DISK_FULL = "The disk is full"
"""How every word about a full disk begins, so that programs know it too."""


class LoraTuiError(Exception):
    """Something a person can act on: what happened, and a hint of what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class InputError(LoraTuiError):
    """What the person gave cannot be used as it is."""


class ConfigError(InputError):
    """One or more settings are wrong; every problem is listed."""

    def __init__(self, problems: Iterable[str], source: str = "", hint: str = "") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        where = f" in {source}" if source else ""
        head = f"{count} problem{'s' if count != 1 else ''}{where}:"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]), hint)


class DataError(InputError):
    """A data file or row cannot be used."""

    def __init__(
        self, message: str, path: Path | None = None, line: int | None = None, hint: str = ""
    ) -> None:
        where = f"{path}{f', {place_of(path, line)}' if line else ''}: " if path else ""
        super().__init__(f"{where}{message}", hint)
        self.path = path
        self.line = line


class ModelError(InputError):
    """The model cannot be found, or is not one that can be trained."""


class DownloadNeededError(InputError):
    """Something is on the hub and not here, and nobody asked to bring it."""

    def __init__(self, message: str, bytes_left: int) -> None:
        super().__init__(message, "Leave out --probe: a run downloads it when it begins.")
        self.bytes_left = bytes_left


class RunError(LoraTuiError):
    """The run could not start or go on."""


class CheckpointError(RunError):
    """A checkpoint could not be written."""


class DiskFullError(CheckpointError):
    """There is too little space for what has to be written."""

    def __init__(self, folder: Path, needed_bytes: int, free_bytes: int) -> None:
        needed, free = (f"{size / 1e6:,.0f} MB" for size in (needed_bytes, free_bytes))
        super().__init__(
            f"{DISK_FULL}: saving needs {needed}, {free} are free in {folder}.",
            f"Free {needed} there. What was saved before is intact.",
        )
        self.needed_bytes = needed_bytes


class DamagedError(RunError):
    """A checkpoint on disk is not what was written."""


class DownloadError(RunError):
    """What the hub has could not be fetched whole; what arrived is kept."""


class RunBusyError(RunError):
    """Another process is training this run."""


class DeviceError(RunError):
    """The GPU gave up a computation: save nothing from memory, go on from the last checkpoint."""


def place_of(path: Path, line: int) -> str:
    """Return ``line 3`` for files that have lines, ``row 3`` for tables."""
    return f"{'line' if path.suffix == '.jsonl' else 'row'} {line}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to a wrong one, or nothing."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{matches[0]}'?" if matches else ""
