"""Plays a scripted run in a real terminal, for looking at: ``python -m tests.tui.play --help``.

The run answers keys after the step in flight, like a real one, and needs no model.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tests.tui.scripted import ScriptedRun
from tui.app import LoraTuiApp

if TYPE_CHECKING:
    from engine.events import Event


class PlayedRun(ScriptedRun):
    """Advances with the wall clock, whenever somebody looks."""

    def __init__(
        self, iterations: int, steps_per_second: float, head_start: int, stage_seconds: float
    ) -> None:
        super().__init__(iterations, step_seconds=1 / steps_per_second)
        self._stage_seconds = stage_seconds
        self.time = time.time()
        self._head_start = head_start
        self._began = 0.0
        self._is_paused = False

    @property
    def events(self) -> list[Event]:
        """What was said until now."""
        if self.is_alive():
            self._catch_up(time.time())
        return self.log

    def start(self) -> None:
        """Begin now."""
        super().start()
        self._began = time.time()

    def _catch_up(self, now: float) -> None:
        loading = int((now - self._began) / self._stage_seconds)
        if not self.iteration and loading < 4:
            if loading >= len(self.log):
                self.load_next()
            return
        if not self.iteration:
            self.be_ready()
            self.advance(max(1, self._head_start))
            self.time = now
        while not self._is_paused and self.time < now and self.iteration < self.iterations:
            self.advance(1, evaluate_every=50, save_every=100)
        if self.pending and now - self.time < 60:
            self.time = min(now, self.time)
            self.answer()
            self._is_paused = self.is_standing_still
        if self.iteration >= self.iterations and self.is_alive():
            self.finish()


def main() -> int:
    """Show it until somebody leaves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--iterations", type=int, default=1500)
    parser.add_argument("--speed", type=float, default=8.0, help="steps per second")
    parser.add_argument("--head-start", type=int, default=1, help="steps already trained")
    parser.add_argument("--stage", type=float, default=0.7, help="seconds a stage of loading takes")
    given = parser.parse_args()
    run = PlayedRun(given.iterations, given.speed, given.head_start, given.stage)
    app = LoraTuiApp(run)
    app.run()
    sys.stderr.write(f"asked: {', '.join(run.calls)}\n")
    return app.return_code or 0


if __name__ == "__main__":
    sys.exit(main())
