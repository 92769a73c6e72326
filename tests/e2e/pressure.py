"""Puts a run under real memory pressure: a control group of its own, and a process that eats.

``python -m tests.e2e.pressure`` is the eater: it takes the memory of the group that it is in, fast
at first and slowly where it is short, until its standard input ends. ``… pressure SHARE [SHARE…]``
is the hog: it takes all but the first share of the limit at once, says so, and all but the next
share when it is told to.
"""

from __future__ import annotations

import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.host.cgroup import Cgroups
from tests.cli.program import PATIENCE, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ROOT = Path("/")
MB = 10**6
NO_LIMIT = -1

ENTER = 'echo "$1" > /proc/self/oom_score_adj; echo $$ > "$0" || exit 97; shift; exec "$@"'
"""Moves a shell into a group, and becomes the program that is to run there."""
RUN_OOM_SCORE, EATER_OOM_SCORE, HOG_OOM_SCORE = 500, 0, 900
"""Whoever trains in the background goes first, as on a Mac; a hog before that."""

CHUNK_BYTES = 2 * MB
FAST, STEADY, SLOW = 0.25, 0.03, 0.008
"""What the eater takes in a second, as shares of the limit: before it was ever in the band where
it is slow, outside of it afterwards, and in it."""
SLOW_BAND = (0.04, 0.12)
"""Shares of the limit left between which it is slow: from a little before yellow to red."""


@dataclass(frozen=True, slots=True)
class _Files:
    """What the two versions of control groups call the same things."""

    limit: str
    no_limit: str
    used: str


_V1 = _Files("memory.limit_in_bytes", "-1", "memory.usage_in_bytes")
_V2 = _Files("memory.max", "max", "memory.current")


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """A control group that holds what is put into it."""

    path: Path
    files: _Files

    def set_limit(self, count: int) -> None:
        """Limit what the group may use, in bytes."""
        text = self.files.no_limit if count == NO_LIMIT else f"{count}"
        (self.path / self.files.limit).write_text(text)

    def used(self) -> int:
        """Return the bytes in use, without the files' cache, which can be dropped."""
        statistics = dict(
            line.split() for line in (self.path / "memory.stat").read_text().splitlines()
        )
        names = ("total_inactive_file", "total_active_file")
        if self.files is _V2:
            names = ("inactive_file", "active_file")
        cache = sum(int(statistics.get(name, 0)) for name in names)
        return int((self.path / self.files.used).read_text()) - cache

    def inside(self, *command: str, oom_score: int) -> list[str]:
        """Return what starts a program inside the group."""
        return ["sh", "-c", ENTER, str(self.path / "cgroup.procs"), str(oom_score), *command]

    def start(self, *command: str, oom_score: int, home: Path) -> subprocess.Popen[str]:
        """Start a program inside the group."""
        return subprocess.Popen(
            self.inside(*command, oom_score=oom_score),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(home),
            text=True,
            encoding="utf-8",
        )


class NoGroupError(Exception):
    """No memory control group can be made here; says why."""


@contextmanager
def memory_group() -> Generator[MemoryGroup]:
    """Make a group below this process's own, or the nearest above it that allows that.

    Raises:
        NoGroupError: when none can be made.
    """
    own = Cgroups(ROOT).own()
    if own is None:
        raise NoGroupError("no memory control group is mounted")
    problem = ""
    parent = own
    # A group of version 2 that holds processes has no children with a limit; its parents may.
    while (parent / "cgroup.procs").exists():
        try:
            group = _make(parent / f"lora-tui-{os.getpid()}")
        except NoGroupError as error:
            problem = problem or str(error)
            parent = parent.parent
            continue
        try:
            yield group
        finally:
            group.path.rmdir()
        return
    raise NoGroupError(problem)


def _make(path: Path) -> MemoryGroup:
    try:
        path.mkdir()
    except OSError as error:
        raise NoGroupError(f"{path} cannot be made: {error.strerror}") from error
    files = _V1 if (path / _V1.limit).exists() else _V2
    try:
        with (path / files.limit).open("w") as limit, (path / "cgroup.procs").open("w"):
            limit.write(files.no_limit)
    except OSError as error:
        path.rmdir()
        raise NoGroupError(f"{path} has no memory limit to set: {error.strerror}") from error
    return MemoryGroup(path, files)


@dataclass
class Episode:
    """What became of a run beside an eater."""

    limit_bytes: int = 0
    calm_step_seconds: float = math.nan
    """What a step took before the eater came."""
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    exit_code: int | None = None
    eater_seconds: float = math.nan
    """From the eater's start to the run's pause or end."""

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [event for event in self.events if event["event"] == kind]

    @property
    def guard_actions(self) -> list[str]:
        """What the guard did, in order."""
        return [event["action"] for event in self.of_kind("guard")]

    @property
    def micro_batches(self) -> dict[int, int]:
        """Rows evaluated at once, by iteration."""
        return {step["iteration"]: step["micro_batch"] for step in self.of_kind("step")}

    @property
    def slowest_step_seconds(self) -> float:
        """What a step took at worst."""
        return max(step["seconds"] for step in self.of_kind("step"))

    def reaction_seconds(self) -> list[float]:
        """For each action, how long after the newest sample of the machine it was carried out."""
        found: list[float] = []
        sampled = math.nan
        for event in self.events:
            if event["event"] == "host":
                sampled = event["time"]
            elif event["event"] == "guard":
                found.append(event["time"] - sampled)
        return found


class _Lines:
    """A run's events as they come, read by a thread so that waiting can end."""

    def __init__(self, run: subprocess.Popen[str], episode: Episode) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._episode = episode
        self._run = run
        self._has_ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float) -> bool:
        """Take events up to a wanted one; False when the run or the time ended before."""
        ends = time.monotonic() + seconds
        while not self._has_ended:
            try:
                line = self._queue.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                return False
            if line is None:
                self._has_ended = True
                break
            event = json.loads(line)
            self._episode.events.append(event)
            if wanted(event):
                return True
        return False

    def _read(self) -> None:
        assert self._run.stdout is not None
        for line in self._run.stdout:
            # The last line of a process that was killed may be torn.
            if line.endswith("}\n"):
                self._queue.put(line)
        self._queue.put(None)


def is_kind(kind: str) -> Callable[[dict[str, Any]], bool]:
    """Return a test for events of one kind."""
    return lambda event: event["event"] == kind


CALM_STEPS, AFTER_STEPS = 4, 2
ROOM = 0.74
"""Share of the limit that the run uses before the eater comes: well green."""
CRAWL_SECONDS = 60.0
"""How long a run without a guard may go on beside the eater; then it is said to crawl."""


def beside_an_eater(group: MemoryGroup, command: list[str], home: Path) -> Episode:
    """Let a run train in peace, then beside an eater until it pauses or ends, then in peace.

    Args:
        group: where both live; it must be empty.
        command: the run; prints its events as JSON lines.
        home: where it writes.
    """
    episode = Episode()
    group.set_limit(NO_LIMIT)
    with _living(group.start(*command, oom_score=RUN_OOM_SCORE, home=home)) as run:
        lines = _Lines(run, episode)
        most = 0
        for _ in range(CALM_STEPS):
            assert lines.until(is_kind("step"), PATIENCE), "the run does not train"
            most = max(most, group.used())
        episode.calm_step_seconds = episode.of_kind("step")[-1]["seconds"]
        episode.limit_bytes = round(most / ROOM)
        group.set_limit(episode.limit_bytes)
        with _eater(group, home):
            began = time.monotonic()
            has_paused = lines.until(is_kind("paused"), CRAWL_SECONDS)
            episode.eater_seconds = time.monotonic() - began
            if has_paused:
                # The pause has to hold while the eater does.
                lines.until(is_kind("host"), PATIENCE)
        if has_paused:
            assert lines.until(is_kind("resumed"), PATIENCE), "the run does not go on"
            for _ in range(AFTER_STEPS):
                lines.until(is_kind("step"), PATIENCE)
        run.terminate()
        lines.until(lambda _: False, PATIENCE)
        episode.exit_code = run.wait(PATIENCE)
    return episode


@contextmanager
def _eater(group: MemoryGroup, home: Path) -> Generator[None]:
    command = (sys.executable, "-m", "tests.e2e.pressure")
    with _living(group.start(*command, oom_score=EATER_OOM_SCORE, home=home)):
        yield


@contextmanager
def hog(group: MemoryGroup, home: Path, *left: float) -> Generator[Callable[[], None]]:
    """Let a program take a group's memory in a moment; it holds it to the end of the block.

    Args:
        group: whose memory; it has a limit.
        home: where it writes.
        left: shares of the limit that it leaves, one after the other; the first from the beginning.

    Yields:
        What makes it go on to the next share, and returns once that is all there is left.
    """
    command = (sys.executable, "-m", "tests.e2e.pressure", *map(str, left))
    with _living(group.start(*command, oom_score=HOG_OOM_SCORE, home=home)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, asked = process.stdout, process.stdin
        assert told.readline()

        def go_on() -> None:
            asked.write("\n")
            asked.flush()
            assert told.readline()

        yield go_on


@contextmanager
def _living(process: subprocess.Popen[str]) -> Generator[subprocess.Popen[str]]:
    """Let a process live as long as the block, and close its pipes after it."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def eat() -> None:
    """Take the group's memory, until the standard input ends or the group is full."""
    has_ended = threading.Event()

    def watch() -> None:
        sys.stdin.read()
        has_ended.set()

    threading.Thread(target=watch, daemon=True).start()
    groups, eaten, fast = Cgroups(ROOT), list[bytearray](), FAST
    while not has_ended.is_set():
        room = min(groups.rooms(), key=lambda room: room.left)
        low, high = SLOW_BAND
        is_short = low < room.left / room.limit < high
        share = SLOW if is_short else fast
        if is_short:
            fast = STEADY
        eaten.append(bytearray(b"\1") * CHUNK_BYTES)
        has_ended.wait(CHUNK_BYTES / (share * room.limit))


def gorge(shares: list[float]) -> None:
    """Take memory until a share of the limit is left, and the next when a line is read."""
    groups, eaten = Cgroups(ROOT), list[bytearray]()
    for share in shares:
        while True:
            room = min(groups.rooms(), key=lambda room: room.left)
            if room.left <= share * room.limit:
                break
            eaten.append(bytearray(b"\1") * CHUNK_BYTES)
        print(room.left, flush=True)
        sys.stdin.readline()
    sys.stdin.read()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        gorge([float(share) for share in sys.argv[1:]])
    else:
        eat()
