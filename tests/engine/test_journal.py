"""The journal is read back whole, while it grows, and whatever became of its end."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.journal import (
    Journal,
    JournalReader,
    read_details,
    read_history,
    read_journal,
    read_outline,
    read_overview,
)
from tests.engine.samples import filled

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

EVERY = [filled(kind) for kind in ev.KINDS.values()]


def write(path: Path, events: Iterable[ev.Event]) -> None:
    journal = Journal(path)
    for event in events:
        journal.append(event)
    journal.close()


def warned(message: str) -> ev.Warned:
    return ev.Warned(time=1.0, message=message)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_every_kind_is_read_back(path: Path) -> None:
    write(path, EVERY)
    assert read_journal(path) == EVERY
    assert path.read_bytes().count(b"\n") == len(EVERY)


def test_a_journal_that_is_opened_again_grows(path: Path) -> None:
    write(path, EVERY[:3])
    write(path, EVERY[3:])
    assert read_journal(path) == EVERY


def test_an_event_is_on_disk_when_append_returns(path: Path) -> None:
    journal = Journal(path)
    for count, event in enumerate(EVERY, start=1):
        journal.append(event)
        assert len(read_journal(path)) == count
    journal.close()


def test_a_reader_goes_on_where_it_stopped(path: Path) -> None:
    reader = JournalReader(path)
    assert list(reader.read()) == []
    write(path, EVERY[:2])
    assert list(reader.read()) == EVERY[:2]
    assert list(reader.read()) == []
    write(path, EVERY[2:])
    assert list(reader.read()) == EVERY[2:]


def test_a_reader_that_is_left_in_the_middle_goes_on_there(path: Path) -> None:
    write(path, EVERY)
    reader = JournalReader(path)
    events = reader.read()
    assert [next(events), next(events)] == EVERY[:2]
    assert list(reader.read()) == EVERY[2:]


def test_an_event_cut_short_at_any_byte_waits_for_its_end(path: Path) -> None:
    whole = "".join(f"{ev.to_json(e)}\n" for e in EVERY[:2]).encode()
    last = f"{ev.to_json(warned('límite'))}\n".encode()
    for cut in range(len(last)):
        path.write_bytes(whole + last[:cut])
        reader = JournalReader(path)
        assert list(reader.read()) == EVERY[:2]
        assert read_outline(path) == EVERY[:2]
        path.write_bytes(whole + last)
        assert list(reader.read()) == [warned("límite")]


def test_many_events_cut_at_any_byte_of_the_end_lose_the_last_line_only(path: Path) -> None:
    many = [*EVERY, *(warned(f"number {i} ü") for i in range(60))]
    write(path, many)
    whole = path.read_bytes()
    for cut in range(len(whole) - 2048, len(whole) + 1):
        path.write_bytes(whole[:cut])
        complete = whole[:cut].count(b"\n")
        assert read_journal(path) == many[:complete], cut
        Journal(path).close()
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:complete]), cut


def test_what_was_cut_short_is_all_that_is_lost(path: Path) -> None:
    """A process that was killed while it wrote; the next one goes on with the same journal."""
    write(path, [warned("first"), warned("cut")])
    path.write_bytes(path.read_bytes()[:-5])
    reader = JournalReader(path)
    assert list(reader.read()) == [warned("first")]
    write(path, [warned("second"), warned("third")])
    assert list(reader.read()) == [warned("second"), warned("third")]
    assert read_journal(path) == [warned("first"), warned("second"), warned("third")]


def test_a_disk_that_fills_up_in_the_middle_of_a_line_is_an_error(path: Path) -> None:
    journal = Journal(path)
    journal.append(warned("first"))
    reader = JournalReader(path)
    with file_size_limit(path.stat().st_size + 10), pytest.raises(OSError, match=r"space|large"):
        journal.append(warned("second"))
    assert list(reader.read()) == [warned("first")]
    journal.append(warned("second"))
    journal.close()
    assert list(reader.read()) == [warned("second")]


@contextmanager
def file_size_limit(most: int) -> Generator[None]:
    """Let no file grow beyond this: what does not fit is cut off, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0\0\0\0",
        b"\xff\xfe{",
        b"{",
        b"[1, 2]",
        b"null",
        b'"step"',
        b'{"event": "paused", "time": 1.0}',
        b'{"event": "paused", "time": "noon", "iteration": 1}',
        b'{"event": ["step"]}',
        b'{"event": "step", "time": 1.0, "memory": 5}',
        b'{"event": "sang", "time": 1.0}',
    ],
)
def test_a_damaged_line_is_passed_over(path: Path, damage: bytes) -> None:
    lines = [f"{ev.to_json(warned(text))}".encode() for text in ("before", "after")]
    path.write_bytes(b"\n".join([lines[0], damage, lines[1], b""]))
    assert read_journal(path) == [warned("before"), warned("after")]
    assert read_outline(path) == [warned("before"), warned("after")]


def test_a_journal_that_is_not_there_is_empty(path: Path) -> None:
    assert read_journal(path) == []


def test_a_journal_that_cannot_be_read_is_an_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        read_journal(path)


def test_an_outline_has_the_last_step_and_sample_of_the_machine_only(path: Path) -> None:
    host, step, ended = filled(ev.Host), filled(ev.Step), filled(ev.Ended)
    hosts = [ev.Host(time=float(i), pressure="green") for i in range(3)]
    write(path, [warned("a"), *hosts, step, warned("b"), host, step, ended])
    outline = read_outline(path)
    assert outline[:3] == [warned("a"), warned("b"), ended]
    assert {type(event) for event in outline[3:]} == {ev.Step, ev.Host}
    assert host in outline
    assert len(outline) == 5


def long_run(steps: int) -> list[ev.Event]:
    step = filled(ev.Step)
    told: list[ev.Event] = []
    for iteration in range(1, steps + 1):
        told += [
            ev.Host(time=float(iteration), pressure="green"),
            replace(step, iteration=iteration),
        ]
        if iteration % 100 == 0:
            told.append(replace(filled(ev.Evaluated), iteration=iteration))
    return told


def test_an_overview_of_a_short_run_is_its_history(path: Path) -> None:
    write(path, long_run(1_200))
    overview = read_overview(path, 50, 1_200)
    assert overview.is_whole
    assert overview.events == read_history(path, 50)
    assert overview.count.lines == 2 * 1_200 + 12


def test_an_overview_of_a_long_run_has_its_newest_steps_and_a_share_of_the_others(
    path: Path,
) -> None:
    write(path, long_run(5_000))
    overview = read_overview(path, 50, 2_000)
    assert not overview.is_whole
    assert overview.count.lines == 2 * 5_000 + 50
    of = {kind: [e for e in overview.events if isinstance(e, kind)] for kind in ev.KINDS.values()}
    assert [host.time for host in of[ev.Host]] == [float(i) for i in range(4_951, 5_001)]
    assert len(of[ev.Evaluated]) == 50
    steps = [event.iteration for event in overview.events if isinstance(event, ev.Step)]
    assert steps[-1_000:] == list(range(4_001, 5_001))
    assert steps[:-1_000] == list(range(1, 4_001, 4))
    in_turn = [e.iteration for e in overview.events if isinstance(e, ev.Step | ev.Evaluated)]
    assert in_turn == sorted(in_turn)


@pytest.mark.parametrize("length", [1_500, 1_501, 2_999, 6_000])
def test_an_overview_is_as_fine_as_was_asked(length: int, path: Path) -> None:
    write(path, [replace(filled(ev.Step), iteration=i) for i in range(length)])
    overview = read_overview(path, 50, 1_500)
    assert overview.is_whole == (length == 1_500)
    assert 1_250 <= len(overview.events) <= 1_500


def test_an_overview_of_a_long_run_has_the_newest_samples_and_a_share_of_the_others(
    path: Path,
) -> None:
    write(path, long_run(5_000))
    hosts = [e.time for e in read_overview(path, 520, 2_000).events if isinstance(e, ev.Host)]
    assert hosts[-120:] == [float(i) for i in range(4_881, 5_001)]
    assert hosts[:-120] == [float(i) for i in range(4_481, 4_881, 8)]


def test_the_seconds_of_an_overview_add_up(path: Path) -> None:
    # It went back once: the steps from 2,501 to 3,000 were taken twice.
    taken = [*range(1, 3_001), *range(2_501, 4_501)]
    write(path, [replace(filled(ev.Step), iteration=i, seconds=2.0) for i in taken])
    steps = [e for e in read_overview(path, 50, 2_000).events if isinstance(e, ev.Step)]
    assert len(steps) < len(taken)
    assert sum(step.seconds for step in steps) == pytest.approx(2.0 * len(taken), rel=0.01)
    assert {step.seconds for step in steps[-900:]} == {2.0}


def test_the_details_are_the_history_up_to_a_line(path: Path) -> None:
    told = long_run(1_500)
    write(path, told)
    whole = read_history(path, 50)
    count = read_overview(path, 50, 100).count
    write(path, long_run(10))
    assert list(read_details(path, 50, count)) == whole


def test_lines_that_hold_nothing_are_counted(path: Path) -> None:
    write(path, long_run(100))
    path.write_bytes(path.read_bytes() + b'\n\n{"event": "step"}\n{"event": "host", "ti')
    count = read_overview(path, 10, 10).count
    assert (count.lines, count.hosts) == (2 * 100 + 1 + 3, 100)


def test_a_line_cut_short_is_in_no_overview(path: Path) -> None:
    write(path, long_run(5))
    before = read_overview(path, 50, 2_000)
    path.write_bytes(path.read_bytes() + b'{"event": "step", "iter')
    assert read_overview(path, 50, 2_000) == before
    assert read_overview(path.with_name("none"), 50, 2_000).events == []
