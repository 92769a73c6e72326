"""A run that never ends: ``python -m tests.cli.stuck (begun|loading) (followed|left)``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from engine.config import RunConfig
from engine.events import Progress
from engine.runs import RunDirectory
from engine.session import Session
from tui import cli_dashboard, plain
from tui.terminal import StrayOutput

if TYPE_CHECKING:
    from engine.events import CheckpointReason


class Stuck(Session):
    """Says what it is asked, and does nothing."""

    def start(self) -> None:
        """Say one thing, and no more."""
        self._record(Progress(time=0.0, stage="model", message="loading"))

    def is_alive(self) -> bool:
        """It never ends."""
        return True

    def join(self, timeout_seconds: float | None = None) -> bool:
        """It never ends, however long one waits."""
        assert timeout_seconds is not None
        return False

    def stop(
        self,
        reason: str = "",
        checkpoint_reason: CheckpointReason = "stop",
        exit_code: int = 0,
    ) -> None:
        """Say what was asked."""
        sys.stderr.write(f"asked to stop: {reason}, {checkpoint_reason}, {exit_code}\n")
        sys.stderr.flush()


class Begun(Stuck):
    """Has a folder already."""

    @property
    def has_begun(self) -> bool:
        """Whether the run is on disk."""
        return True


if __name__ == "__main__":
    stage, what = sys.argv[1:]
    kind = Begun if stage == "begun" else Stuck
    session = kind(RunConfig(on_hangup="stop"), RunDirectory(Path("unused")))
    if what == "followed":
        plain.follow(session, plain.JsonLines(sys.stdout))
    else:
        cli_dashboard.JOIN_SECONDS = 0.1
        with StrayOutput() as stray:
            run = cli_dashboard.SteeredRun(session, stray)
            app = cast("Any", SimpleNamespace(use=id, run=session.start, return_code=0))
            cli_dashboard.show_app(app, stray, lambda: run)
