"""``lora-tui report``: of a run that is over, one that goes on, and one that was killed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.lock import RunLock
from tests.cli.test_listing import step, write_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.program import Outcome


def events(*more: ev.Event) -> list[ev.Event]:
    now = time.time()
    steps = [step(i, now - 10 + i) for i in range(1, 6)]
    saved = ev.CheckpointSaved(
        time=now, iteration=4, path="adapters/0000004_adapters.safetensors", reason="scheduled",
        seconds=1.0, bytes=1000,
    )  # fmt: skip
    return [*steps, saved, *more]


def test_of_a_run_that_is_over(call: Callable[..., Outcome], home: Path) -> None:
    ended = ev.Ended(time=time.time(), status="stopped", iteration=5, reason="as asked")
    write_run(home, "night", events(ended))
    outcome = call("report")
    assert outcome.code == 0
    assert "Stopped at 5 of 9" in outcome.out
    assert "lora-tui run --resume night" in outcome.out
    assert "lora-tui chat night" in outcome.out
    assert "--adapter-path" in outcome.out


def test_of_a_run_that_goes_on(call: Callable[..., Outcome], home: Path) -> None:
    write_run(home, "night", events())
    lock = RunLock(home / "runs" / "night" / "run.lock")
    lock.acquire()
    try:
        outcome = call("report", "night")
    finally:
        lock.release()
    assert "Still at work: 5 of 9" in outcome.out
    assert "--resume" not in outcome.out


def test_of_a_run_that_was_killed(call: Callable[..., Outcome], home: Path) -> None:
    write_run(home, "night", events())
    assert "Interrupted at 5 of 9" in call("report", "night").out
    page = home / "runs" / "night" / "report.html"
    assert not page.exists()
    outcome = call("report", str(home / "runs" / "night"), "--html")
    assert outcome.out.strip() == str(page)
    assert "✗ interrupted" in page.read_text(encoding="utf-8")


def test_of_no_run(call: Callable[..., Outcome], home: Path) -> None:
    assert call("report").code == 2
    write_run(home, "night", events())
    outcome = call("report", "nihgt")
    assert outcome.code == 2
    assert "night" in outcome.err


@pytest.mark.parametrize("columns", ["50", "200"])
def test_it_keeps_to_the_terminal(
    call: Callable[..., Outcome], home: Path, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    write_run(home, "night", events())
    words = call("report").out.partition("Planned and real")[0]
    assert max(map(len, words.splitlines())) <= min(100, int(columns))
