"""What the screens ask of the disk: a run's checkpoints, and to delete what nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

READ_ONLY = "Read-only: this shows the run and changes nothing."
STEER = "To steer it: lora-tui attach, or lora-tui serve --steer"
"""Why nothing is done for somebody who may only look, and what to do then."""


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What a checkpoint says of itself; read, not verified."""

    iteration: int
    val_loss: float | None
    trained_tokens: int
    settings: tuple[tuple[str, str], ...]
    """The main settings it was trained with, as label and words."""


class Records(Protocol):
    """Runs on disk; its methods take a while, so never on the thread that draws."""

    def checkpoint(self, path: str, iteration: int) -> CheckpointFacts | None:
        """Return what a checkpoint of the run in a folder says of itself; None if it is damaged."""
        ...

    def delete_checkpoint(self, path: str, iteration: int) -> None:
        """Delete one checkpoint.

        Raises:
            LoraTuiError: when it cannot be, or the run is in training.
        """
        ...

    def run_bytes(self, path: str) -> int:
        """Return what the run in a folder takes on disk."""
        ...

    def delete_run(self, path: str) -> int:
        """Delete the run in a folder, and return the bytes that came back.

        Raises:
            LoraTuiError: when it cannot be, or it is in training.
        """
        ...
