"""Where the morning report is read from and left: journals, run folders, full disks."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.report.keep import MOST_CALM_SAMPLES, PAGE, leave_report, read_events, read_report
from engine.report.series import BUCKETS
from engine.resume import Resume
from engine.runs import RunDirectory
from engine.session import Session
from engine.trouble import TroubleWatch
from tests.engine.test_report import look, report_of, stopped
from tests.engine.workshop import finish
from tests.tui.scripted import trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.workshop import Workshop


def write(folder: Path, events: list[ev.Event]) -> RunDirectory:
    folder.mkdir(exist_ok=True)
    text = "".join(f"{ev.to_json(event)}\n" for event in events)
    (folder / "events.jsonl").write_text(text, encoding="utf-8")
    return RunDirectory(folder)


def test_a_journal_gives_the_same_report(tmp_path: Path) -> None:
    run = stopped()
    directory = write(tmp_path / "maximum", run.log)
    found = read_report(directory)
    assert replace(found, name="maximum", folder="/runs/maximum") == report_of(run)


def test_of_a_calm_machine_not_every_sample_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_CALM_SAMPLES > 20 * BUCKETS
    monkeypatch.setattr("engine.report.keep.MOST_CALM_SAMPLES", 10)
    run = trained(5, 100)
    for _ in range(200):
        look(run, 1)
    look(run, 1, pressure="yellow")
    kept = list(read_events(write(tmp_path / "long", run.log).journal_file))
    hosts = [e for e in kept if isinstance(e, ev.Host)]
    assert len(hosts) <= 12
    assert hosts[-1].pressure == "yellow"
    assert len(kept) - len(hosts) == len([e for e in run.log if not isinstance(e, ev.Host)])


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), ValueError("a fault of ours")]
)
def test_no_report_keeps_a_run_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("engine.report.keep.write_text", refuse)
    directory = write(tmp_path / "full", stopped().log)
    leave_report(directory, None)
    assert "The report could not be written" in directory.log_file.read_text()
    assert not (directory.path / PAGE).exists()


def test_every_run_leaves_its_report(workshop: Workshop) -> None:
    run = workshop.run()
    page = (run.directory.path / PAGE).read_text(encoding="utf-8")
    assert "✓ completed" in page
    assert f"Completed all {run.of(ev.Started)[0].iterations} iterations" in page
    assert not [p for p in run.directory.path.iterdir() if p.name.startswith(".tmp-")]


class OneTrouble(TroubleWatch):
    """Finds trouble in the second step, unless it was said before."""

    def take(self, event: ev.Event) -> Iterator[ev.Trouble]:
        """Say it once."""
        if isinstance(event, ev.Step) and "plateau" not in self._said:
            self._said.add("plateau")
            yield ev.Trouble(
                time=event.time, shape="plateau", iteration=event.iteration, words="It is flat.",
                suggestion="Try more rows.",
            )  # fmt: skip


def test_a_resumed_run_tells_of_both_processes_and_of_its_trouble_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.train.TroubleWatch", OneTrouble)
    first = workshop.run()
    assert [t.words for t in first.of(ev.Trouble)] == ["It is flat."]
    config = workshop.config(iters=8)
    second = finish(Session(config, first.directory, resume=Resume(first.directory.adapters)))
    assert second.ended.status == "completed"
    assert second.of(ev.Trouble) == []
    page = (first.directory.path / PAGE).read_text(encoding="utf-8")
    assert "Went on from 6" in page
    assert page.count("It is flat.") == 1
    assert "Try more rows." in page
