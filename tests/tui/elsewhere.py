"""A run in another process, as far as this one can see: its journal, its lock and its socket."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from engine.control import ControlServer
from engine.journal import Journal
from engine.lock import RunLock
from engine.runs import RunDirectory
from tests.tui.scripted import ScriptedRun

if TYPE_CHECKING:
    from pathlib import Path

    from engine import events as ev

PATIENCE = 20.0


class Elsewhere:
    """A scripted run that is served the way a session in another process is."""

    def __init__(self, folder: Path, script: ScriptedRun | None = None) -> None:
        folder.mkdir(parents=True)
        self.directory = RunDirectory(folder)
        self.script = script or ScriptedRun(200)
        self._lock = RunLock(self.directory.lock_file)
        self._lock.acquire()
        self._journal = Journal(self.directory.journal_file)
        self._written = 0
        self._server: ControlServer | None = None
        self._thread: threading.Thread | None = None

    def begin(self, steps: int) -> None:
        """Train so far, and be reachable."""
        self.script.start()
        self.script.begin()
        self.script.advance(steps, evaluate_every=20, save_every=20)
        self.tell()
        self.listen()

    def listen(self) -> None:
        """Serve the socket."""
        run = self.directory
        self._server = ControlServer(run.control_socket, run.journal_file, self)
        self._thread = threading.Thread(target=self._server.serve, daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Write down what happened."""
        for event in self.script.log[self._written :]:
            self._journal.append(event)
        self._written = len(self.script.log)

    def hang_up(self) -> None:
        """Let go of the socket."""
        if self._server is not None and self._thread is not None:
            self._server.close()
            self._thread.join(PATIENCE)
            self._server = None

    def leave(self) -> None:
        """Be gone, having said the last word or not."""
        self.hang_up()
        self._journal.close()
        self._lock.release()

    @property
    def asked(self) -> list[str]:
        """What was asked over the socket."""
        return self.script.calls[1:]

    def pause(self) -> None:
        """Stand still."""
        self.script.pause()

    def resume(self) -> None:
        """Go on."""
        self.script.resume()

    def checkpoint(self) -> None:
        """Save."""
        self.script.checkpoint()

    def evaluate(self) -> None:
        """Measure."""
        self.script.evaluate()

    def sample(self) -> None:
        """Answer the prompts."""
        self.script.sample()

    def set_policy(self, policy: ev.Policy) -> None:
        """Guard differently."""
        self.script.set_policy(policy)

    def stop(self) -> None:
        """End."""
        self.script.stop()

    def unwritten(self) -> list[ev.Event]:
        """Nothing waits for room on the disk."""
        return []
