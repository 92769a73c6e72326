"""Says how every run on this machine stands, reading a bounded part of each journal.

A journal grows by a line a step and a line a second, so that one of a week is hundreds of
megabytes. Its end says how the run stands; pieces spread over it say how the loss fell.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, cast

from engine import events as ev
from engine.checkpoint import iterations, read_facts
from engine.errors import DamagedError
from engine.files import TEMPORARY
from engine.journal import HOST, STEP, parse_line
from engine.lock import is_held
from engine.runs import RunDirectory, runs_folder, short_name
from engine.view import RunView

WHOLE_BYTES = 262_144
"""Journals up to this size are read to the end."""
HEAD_BYTES, TAIL_BYTES = 32_768, 65_536
PIECES, PIECE_BYTES = 24, 4096
"""What is read between head and tail of a larger one."""
MOST_TAIL_BYTES = 16_777_216
"""How far back a run that stood still for hours is searched for the reason."""
POINTS = 32
"""Losses that are kept of a run: what a spark line can show."""
_SETTINGS = frozenset({"model", "data", "iters"})
_SETTINGS_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as a list shows it."""

    directory: RunDirectory
    name: str
    """Without the date and time that its folder begins with."""
    status: str
    iteration: int
    iterations: int
    val_loss: float | None
    """The best validation loss; None before the first evaluation."""
    saved_iteration: int | None
    """The newest checkpoint; None when there is none."""
    time: float
    """When it last said something."""
    losses: tuple[float, ...] = ()
    """Mean training losses over stretches of the run, oldest first; NaN where nothing is known."""
    model: str = ""
    data: str = ""

    @property
    def is_going_on(self) -> bool:
        """Whether a process trains it."""
        return self.status in {"loading", "training", "paused"}


class RunCatalog:
    """The runs on this machine; a journal that did not change is not read again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, int], RunRecord]] = {}

    def look(self, most: int | None = None) -> list[RunRecord]:
        """Return the runs, those that said something last first.

        Args:
            most: how many; None means all.
        """
        found: list[tuple[tuple[int, int], RunDirectory]] = []
        folder = runs_folder()
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name.startswith(TEMPORARY):
                continue
            run = RunDirectory(path)
            try:
                state = run.journal_file.stat()
            except OSError:
                continue
            found.append(((state.st_mtime_ns, state.st_size), run))
        found.sort(key=lambda pair: pair[0], reverse=True)
        records = [self._record(mark, run) for mark, run in found[:most]]
        self._known = {
            str(run.path): self._known[str(run.path)]
            for _, run in found[:most]
            if str(run.path) in self._known
        }
        return [record for record in records if record is not None]

    def _record(self, mark: tuple[int, int], run: RunDirectory) -> RunRecord | None:
        known = self._known.get(str(run.path))
        try:
            record = known[1] if known and known[0] == mark else read_record(run)
        except OSError:
            # Deleted, or taken away with its disk, since it was listed.
            return None
        self._known[str(run.path)] = (mark, record)
        if record.is_going_on and not is_held(run.lock_file):
            return replace(record, status="interrupted")
        return record


def read_record(run: RunDirectory) -> RunRecord:
    """Read how a run stands; whether a living process trains it is not looked at.

    Raises:
        OSError: when its journal cannot be read.
    """
    lines, is_whole = _lines(run)
    steps: list[tuple[int, float]] = []
    told: list[ev.Event] = []
    newest: dict[int, bytes] = {}
    for line in lines:
        if line.startswith(STEP):
            if (point := _loss(line)) is not None:
                steps.append(point)
                newest = {point[0]: line}
        elif not line.startswith(HOST) and (event := parse_line(line)) is not None:
            if isinstance(event, ev.Started):
                steps = [step for step in steps if step[0] <= event.iteration]
                newest = {at: last for at, last in newest.items() if at <= event.iteration}
            told.append(event)
    told += [step for last in newest.values() if (step := parse_line(last)) is not None]
    return _fold(run, told, steps, is_whole=is_whole)


def _fold(
    run: RunDirectory, told: list[ev.Event], steps: list[tuple[int, float]], *, is_whole: bool
) -> RunRecord:
    view = RunView()
    view.apply_all(told)
    settings = _settings(run)
    saved = iterations(run.adapters)
    best = view.best or (view.evaluations[-1] if view.evaluations else None)
    val_loss = best.val_loss if best else None
    if not is_whole and saved:
        val_loss = _best_saved(run, saved[-1], val_loss)
    # The line that says that training began may lie between the pieces that were read.
    is_training = view.status == "loading" and view.last_step is not None
    started = view.started
    return RunRecord(
        directory=run,
        name=short_name(run.name),
        status="training" if is_training else view.status,
        iteration=view.iteration,
        iterations=started.iterations if started else _number(settings.get("iters", "")),
        val_loss=val_loss,
        saved_iteration=saved[-1] if saved else None,
        time=max((e.time for e in told if not isinstance(e, ev.CheckpointDeleted)), default=0.0),
        losses=_means(steps),
        model=settings.get("model", ""),
        data=settings.get("data", ""),
    )


def _lines(run: RunDirectory) -> tuple[list[bytes], bool]:
    """Return whole lines of a journal in their order, and whether they are all there are."""
    with run.journal_file.open("rb") as file:
        size = file.seek(0, 2)
        if size <= WHOLE_BYTES:
            return _piece(file, 0, size), True
        lines = _piece(file, 0, HEAD_BYTES)
        stretch = (size - HEAD_BYTES - TAIL_BYTES - PIECE_BYTES) // PIECES
        for number in range(PIECES):
            begin = HEAD_BYTES + number * stretch
            lines += _piece(file, begin, begin + PIECE_BYTES)
        return [*lines, *_tail(file, size)], False


def _tail(file: BinaryIO, size: int) -> list[bytes]:
    """Return the last lines, as far back as the one that says how the run stands."""
    length = TAIL_BYTES
    while True:
        begin = max(HEAD_BYTES, size - length)
        lines = _piece(file, begin, size)
        if begin == HEAD_BYTES or length >= MOST_TAIL_BYTES:
            return lines
        if any(not line.startswith(HOST) for line in lines):
            return lines
        length *= 4


def _piece(file: BinaryIO, begin: int, end: int) -> list[bytes]:
    """Return the lines that lie wholly between two places."""
    file.seek(max(0, begin - 1))
    lines = file.read(end - max(0, begin - 1)).splitlines(keepends=True)
    if begin:
        # What follows the first line's end; empty before it where the piece begins with a line.
        lines = lines[1:]
    return [line for line in lines if line.endswith(b"\n")]


def _loss(line: bytes) -> tuple[int, float] | None:
    try:
        values: Any = json.loads(line)
        loss = values["loss"]
        return int(values["iteration"]), math.nan if loss is None else float(loss)
    except (ValueError, KeyError, TypeError):
        return None


def _means(steps: list[tuple[int, float]]) -> tuple[float, ...]:
    """Return mean losses of equal stretches of the iterations; NaN where none was finite."""
    if not steps:
        return ()
    first, last = steps[0][0], steps[-1][0]
    count = min(POINTS, last - first + 1)
    stretches: list[list[float]] = [[] for _ in range(max(1, count))]
    for iteration, loss in steps:
        place = (iteration - first) * count // (last - first + 1)
        if math.isfinite(loss) and 0 <= place < count:
            stretches[place].append(loss)
    return tuple(sum(losses) / len(losses) if losses else math.nan for losses in stretches)


def _best_saved(run: RunDirectory, iteration: int, seen: float | None) -> float | None:
    """Return the best validation loss that a checkpoint knows of, or a better one that was seen."""
    try:
        position = cast("dict[str, Any]", read_facts(run.adapters, iteration).get("position", {}))
    except DamagedError:
        return seen
    found = [loss for loss in (position.get("best_val_loss"), seen) if isinstance(loss, float)]
    return min(found, default=None)


def _settings(run: RunDirectory) -> dict[str, str]:
    """Return what the run trains on what for how long, without reading all of its settings."""
    try:
        with run.config_file.open(encoding="utf-8") as file:
            lines = file.read(_SETTINGS_BYTES).splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        if key in _SETTINGS:
            found[key] = value.strip().strip("'\"")
    return found


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0
