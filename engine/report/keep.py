"""Reads what a report is made of, and leaves the page in the run's folder."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from engine.files import write_text
from engine.journal import HOST, parse_line
from engine.lock import is_held
from engine.report.facts import Report, gather
from engine.runs import RunDirectory, runs_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from engine import events as ev

PAGE = "report.html"
MOST_CALM_SAMPLES = 20_000
"""Samples of a machine that is well, as many as are read; five for each point of a long night."""
_CALM = b'"pressure": "green"'


def read_report(run: RunDirectory) -> Report:
    """Return the report of a run from its journal, however far it got.

    Raises:
        OSError: when the journal cannot be read.
    """
    is_alive = is_held(run.lock_file)
    events = read_events(run.journal_file)
    return gather(events, name_of(run), str(run.path), is_alive=is_alive)


def write_page(run: RunDirectory, report: Report) -> Path:
    """Write the page, and return where it is.

    Raises:
        OSError: when it cannot be written.
    """
    from engine.report.page import as_page

    path = run.path / PAGE
    write_text(path, as_page(report))
    return path


def leave_report(run: RunDirectory, events: Iterable[ev.Event] | None) -> None:
    """Write the page of a run that is over; one that cannot be written is a line in its log.

    Args:
        run: the run's folder, which exists.
        events: all that happened; None reads the journal.
    """
    try:
        whole = read_events(run.journal_file) if events is None else events
        write_page(run, gather(whole, name_of(run), str(run.path), is_alive=True))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the run ended well
        words = f"The report could not be written: {error!r}. Make it with: lora-tui report\n"
        # A disk that takes no report may take no line either.
        with suppress(OSError), run.log_file.open("a", encoding="utf-8") as log:
            log.write(words)


def name_of(run: RunDirectory) -> str:
    """Return what to type for a run."""
    return run.name if run.path.parent == runs_folder() else str(run.path)


def read_events(path: Path) -> Iterator[ev.Event]:
    """Yield a journal's events; of a calm machine's samples, in a long run, every so many.

    Raises:
        OSError: when the file is there and cannot be read.
    """
    with path.open("rb") as file:
        calm = sum(line.startswith(HOST) and _CALM in line for line in file)
        every = max(1, calm // MOST_CALM_SAMPLES)
        file.seek(0)
        seen = 0
        for line in file:
            if not line.endswith(b"\n"):
                return
            if every > 1 and line.startswith(HOST) and _CALM in line:
                seen += 1
                if seen % every:
                    continue
            if (event := parse_line(line)) is not None:
                yield event
