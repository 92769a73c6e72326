"""The morning report in the dashboard: there once a run is over, with the page's facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.report.words import result
from tests.tui.conftest import app_for, watched
from tests.tui.drawing import assert_looks, assert_sizes
from tests.tui.scripted import ScriptedRun, trained
from tui.dashboard import Dashboard
from tui.report import ReportScreen, facts_of, report_content

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tui.conftest import Watched
    from tests.tui.drawing import Snapshot


def eventful() -> ScriptedRun:
    """A night with a bit of everything."""
    run = trained(900, 2000)
    run.shrink()
    run.advance(40)
    run.pause()
    run.answer()
    run.time += 700
    run.resume()
    run.answer()
    run.break_step()
    run.log.append(
        ev.Guard(time=run.time, action="skip_batch", why="its loss is no number", iteration=941)
    )
    run.time += 3600
    run.log.append(ev.Slept(time=run.time, seconds=3600))
    run.advance(1059)
    run.finish()
    return run


async def open_report(seen: Watched) -> None:
    await seen.press("m")
    await seen.app.workers.wait_for_complete()


async def open_its_end(seen: Watched) -> None:
    await open_report(seen)
    await seen.press("end")


async def test_picture(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    await assert_looks(snapshot, monkeypatch, lambda: app_for(eventful()), open_report)


async def test_picture_of_its_end(snapshot: Snapshot) -> None:
    await assert_sizes(snapshot, lambda: app_for(eventful()), open_its_end)


@pytest.mark.asyncio
async def test_it_opens_once_the_run_is_over(run: ScriptedRun) -> None:
    async with watched(app_for(run)) as seen:
        assert "report" not in seen.footer
        await seen.press("m")
        assert isinstance(seen.app.screen, Dashboard)
        run.finish()
        await seen.look()
        assert "report" in seen.footer
        await seen.press("m")
        assert isinstance(seen.app.screen, ReportScreen)
        await seen.app.workers.wait_for_complete()
        await seen.pilot.pause()
        assert "Completed all 15,000 iterations" in seen.text()
        await seen.press("escape")
        assert isinstance(seen.app.screen, Dashboard)


@pytest.mark.asyncio
async def test_a_run_that_never_began_has_none() -> None:
    run = ScriptedRun()
    run.load(2)
    run.end("failed", "There is no such model.", 1)
    async with watched(app_for(run)) as seen:
        assert "report" not in seen.footer


@pytest.mark.parametrize("width", [40, 73, 99])
def test_every_row_fits(width: int) -> None:
    found = facts_of(eventful())
    text = report_content(found, width).plain
    assert max(map(len, text.splitlines())) <= max(width, 60)
    assert " ".join(result(found).split()[:3]) in " ".join(text.split())


def test_it_is_read_from_the_journal_where_there_is_one(tmp_path: Path) -> None:
    run = eventful()
    run.path = str(tmp_path)
    lines = "".join(f"{ev.to_json(event)}\n" for event in run.log)
    (tmp_path / "events.jsonl").write_text(lines, encoding="utf-8")
    of_journal = facts_of(run)
    run.path = "/runs/scripted"
    assert of_journal.moments == facts_of(run).moments
    assert of_journal.folder == str(tmp_path)
