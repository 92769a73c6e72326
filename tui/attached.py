"""A run in another process as the screens know runs: its journal, and its socket to steer it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from engine.control import ControlClient, Feed
from engine.errors import RunError
from engine.journal import parse_line, read_details, read_overview
from engine.lock import is_held
from engine.view import TRACE_SAMPLES
from tui.records import READ_ONLY, STEER

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from typing import Any

    from engine.control import Verb
    from engine.events import Event, Policy
    from engine.runs import RunDirectory
    from engine.use.talk import Talk

LOOK_SECONDS = 0.1
CONNECT_SECONDS = 1.0
"""Between two tries to reach a process that loads, or has let go of this one."""
FIRST_STEPS = 2_000
"""Steps that a long run is shown with at first; the others follow."""
READ_SECONDS = 0.04
"""How long they are read for between two looks, so that keys never wait for them."""
FIRST_SECONDS = 1.0
"""How long they wait themselves: until the first screen is whole, it needs the processor."""


class AttachedRun:
    """Satisfies ``RunControls`` for a run that this process only looks at.

    What happened is read from the journal; what happens comes over the socket, and from the journal
    again wherever the socket is not there.
    """

    exit_code = 0
    outlives_app = True
    can_detach = False
    refusal = ""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self.edition = 0
        self._events: list[Event] = []
        self._overview = 0
        """How many of them are there in place of all that the journal had at first."""
        self._details: Generator[Event] | None = None
        """All that it had, while that is read."""
        self._read: list[Event] = []
        """What was read of it so far."""
        self._next_line = 0
        """The journal's first line that was not read yet."""
        self._client: ControlClient | None = None
        self._unsent: list[tuple[Verb, dict[str, Any]]] = []
        """What was asked while the process could not be reached."""
        self._looks_to_wait = 0
        self._is_gone = False
        self._follower: asyncio.Task[None] | None = None

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self._directory.path)

    @property
    def events(self) -> Sequence[Event]:
        """Everything that is known so far."""
        return self._events

    def start(self) -> None:
        """Read the journal, and follow the run from there."""
        self.read()
        # Kept, because the loop itself only holds tasks weakly.
        self._follower = asyncio.create_task(self._follow())

    def read(self) -> None:
        """Read what there is of the run, without following it."""
        journal = self._directory.journal_file
        found = read_overview(journal, TRACE_SAMPLES, FIRST_STEPS)
        self._events, self._next_line = found.events, found.count.lines
        if not found.is_whole:
            self._overview = len(found.events)
            self._details = read_details(journal, TRACE_SAMPLES, found.count)
        self.look()

    def read_on(self, seconds: float) -> bool:
        """Read for so long what was left out at first; say whether there is more."""
        if self._details is None:
            return False
        end = time.monotonic() + seconds
        try:
            for event in self._details:
                self._read.append(event)
                if time.monotonic() > end:
                    return True
            self._events = self._read + self._events[self._overview :]
            self.edition += 1
        except OSError:
            # Without the file, what is shown is all there is.
            pass
        self._details, self._read = None, []
        return False

    def look(self) -> None:
        """Take what is new."""
        if self._is_gone:
            return
        if self._client is None:
            self._connect()
        if self._client is not None:
            try:
                self._take(self._client.read())
            except RunError:
                self._let_go()
            else:
                return
        is_trained = is_held(self._directory.lock_file)
        self._read_journal()
        self._is_gone = not is_trained

    def is_alive(self) -> bool:
        """Whether more may come."""
        return not self._is_gone

    def pause(self) -> None:
        """Ask for it, here and below; an answer shows as an event."""
        self._send("pause")

    def resume(self) -> None:
        """Go on after a pause."""
        self._send("resume")

    def checkpoint(self) -> None:
        """Save after the step in flight."""
        self._send("checkpoint")

    def evaluate(self) -> None:
        """Measure the validation loss after the step in flight."""
        self._send("evaluate")

    def sample(self) -> None:
        """Answer the fixed prompts after the step in flight."""
        self._send("sample")

    def set_policy(self, policy: Policy) -> None:
        """Choose what the guard does when memory runs short."""
        self._send("policy", policy=policy)

    def stop(self, reason: str = "asked") -> None:
        """Save and end; only what a person asked for here gets through."""
        if reason == "asked":
            self._send("stop")

    def hang_up(self) -> None:
        """Another process trains it: nothing to do."""

    def detach(self) -> None:
        """It is on its own already."""

    def open_talk(self, iteration: int | None) -> Talk:
        """Prepare to talk to a checkpoint, with a model of this process's own.

        Raises:
            LoraTuiError: when there is none, or its base is gone.
        """
        from engine.use.talk import open_talk
        from tui.cli_dashboard import at

        return open_talk(at(self.path, iteration))

    def leave(self) -> None:
        """Look no more; it goes on."""
        if self._follower is not None:
            self._follower.cancel()
        if self._details is not None:
            self._details.close()

    async def _follow(self) -> None:
        begin = time.monotonic() + FIRST_SECONDS
        try:
            while self._details_wait(begin) or self.read_on(READ_SECONDS) or not self._is_gone:
                await asyncio.sleep(LOOK_SECONDS)
                self.look()
        finally:
            self._let_go()

    def _details_wait(self, begin: float) -> bool:
        return self._details is not None and time.monotonic() < begin

    def _connect(self) -> None:
        self._looks_to_wait -= 1
        if self._looks_to_wait > 0:
            return
        self._looks_to_wait = round(CONNECT_SECONDS / LOOK_SECONDS)
        with suppress(RunError):
            self._client = ControlClient(self._directory.control_socket)
            self._client.ask("subscribe", **{"from": self._next_line})
            unsent, self._unsent = self._unsent, []
            for verb, values in unsent:
                self._send(verb, **values)
            return
        self._let_go()

    def _let_go(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _read_journal(self) -> None:
        with suppress(OSError):
            feed = Feed(self._directory.journal_file, self._next_line)
            try:
                while lines := feed.read():
                    self._take(lines.splitlines())
            finally:
                feed.close()

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            self._next_line += 1
            if (event := parse_line(line)) is not None:
                self._events.append(event)

    def _send(self, verb: Verb, **values: Any) -> None:
        if self._client is not None:
            try:
                self._client.send(verb, **values)
            except RunError:
                self._let_go()
            else:
                return
        self._unsent.append((verb, values))


class WatchedRun(AttachedRun):
    """The same for somebody who may only look: all that would change something is refused."""

    refusal = f"{READ_ONLY}\n{STEER}"

    def open_talk(self, iteration: int | None) -> Talk:
        """Refuse to load a model because somebody looks.

        Raises:
            RunError: always.
        """
        del iteration
        raise RunError(READ_ONLY, STEER)

    def _send(self, verb: Verb, **values: Any) -> None:
        # All that steers goes through here; looking does not.
        del verb, values
        raise RunError(READ_ONLY, STEER)
