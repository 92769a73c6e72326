"""The morning report: facts from any run's events, the same in words and on a page of its own."""

from __future__ import annotations

import re
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.report import words
from engine.report.advice import commands, resume_command, what_next
from engine.report.facts import gather
from engine.report.page import as_page
from engine.report.series import BUCKETS
from tests.tui.scripted import GB, MB, ScriptedRun, trained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.report.facts import Report


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def report_of(run: ScriptedRun, *, is_alive: bool = False) -> Report:
    return gather(run.log, "maximum", "/runs/maximum", is_alive=is_alive)


def told(run: ScriptedRun) -> list[str]:
    return [words for _, _, words in words_of(run)]


def words_of(run: ScriptedRun) -> list[tuple[str, str, str]]:
    return words.timeline(report_of(run))


def look(run: ScriptedRun, seconds: float, **values: object) -> None:
    run.time += seconds
    known = next(e for e in reversed(run.log) if isinstance(e, ev.Host))
    calm = replace(
        known, time=run.time, pressure="green", others_growth=0, thermal="nominal", on_battery=False
    )
    run.log.append(replace(calm, **values))  # pyright: ignore[reportArgumentType]


def add(run: ScriptedRun, event: ev.Event) -> None:
    run.log.append(replace(event, time=run.time))


GOLDEN = """\
maximum
Qwen/Qwen2.5-1.5B-Instruct on mlabonne/guanaco-llama2-1k

Stopped at 1,000 of 2,000 after 54 min: as asked; validation loss 3.216 → 1.224.

Best checkpoint
  ★ 1,000 · validation loss 1.224 (perplexity 3.40) · 148 MB · saved Mon 21 Sep 15:08

What happened
  Mon 21 Sep 14:13  ● Began to train
             14:48  ‖ Paused at 1,000 for 20 min: lunch; 1.50 GB came back
             15:08  ■ Stopped at 1,000: as asked

Planned and real
                  planned            real
  peak memory     5.18 GB         5.13 GB  of a budget of 8.00 GB
  footprint                       5.60 GB  what the system counts, everything included
  time         1 h 10 min          54 min  1 h 05 min to 1 h 14 min planned; here for 50 % of it
  · loading                           6 s
  · training                       34 min
  · measuring                        28 s
  · paused                         20 min
  pace                     1,830 tokens/s  3,764,836 tokens trained on

What to try next
  · Go on from 1,000:
    lora-tui run --resume maximum

Use it
  Talk to it, the base beside it
    lora-tui chat maximum@best
  One answer
    lora-tui generate maximum@best Hello
  Loss and perplexity on rows held out
    lora-tui evaluate maximum@best
  Base and adapter as one model
    lora-tui fuse maximum@best
  The newest adapter, with mlx-lm alone
    mlx_lm.generate --model Qwen/Qwen2.5-1.5B-Instruct --adapter-path /runs/maximum/adapters --prompt Hello"""  # noqa: E501 - typed as it is


def stopped() -> ScriptedRun:
    run = trained(1000, 2000)
    paused = ev.Paused(time=0, iteration=1000, reason="lunch", freed=1500 * MB)
    add(run, paused)
    run.time += 1200
    add(run, ev.Resumed(time=0, iteration=1000, paused_seconds=1200))
    run._save("stop")  # pyright: ignore[reportPrivateUsage]
    run.end("stopped", "as asked")
    return run


def test_the_whole_report_in_words() -> None:
    assert "\n".join(words.as_text(report_of(stopped()))) == GOLDEN


def test_a_loss_that_was_measured_before_the_checkpoint_says_so() -> None:
    run = trained(40, 2000)
    run._save("stop")  # pyright: ignore[reportPrivateUsage]
    found = words.best_checkpoint(report_of(run))
    assert re.match(r"40 · validation loss \S+ \(perplexity \S+\), measured at 0 · ", found), found


@pytest.mark.parametrize("width", [40, 60, 100])
def test_only_what_is_typed_is_wider_than_the_terminal(width: int) -> None:
    found = report_of(stopped())
    typed = {f"    {command.text}" for command in commands(found)}
    rows = [row for row in words.as_text(found, width) if row not in typed]
    figures = {row for row in rows if row.startswith("  ") and "  " in row.strip()}
    assert max(len(row) for row in rows if row not in figures) <= width


def test_pressure_heat_and_battery_are_told_as_spells() -> None:
    run = trained(40, 2000)
    for seconds in range(3):
        look(run, 30 + seconds, pressure="yellow", others_growth=2 * GB)
    look(run, 10, pressure="red", others_growth=2 * GB)
    look(run, 10)
    # So soon after, it is the same spell.
    look(run, 20, pressure="yellow")
    look(run, 500, thermal="heavy", on_battery=True)
    look(run, 300, thermal="heavy", on_battery=True)
    look(run, 300)
    run.end("stopped", "as asked")
    found = report_of(run)
    assert [m.words for m in found.moments[1:-1]] == [
        "Memory pressure was red for 1 min 43 s",
        "The machine was hot (heavy) for 5 min 00 s",
        "On battery for 5 min 00 s",
    ]
    assert found.strain.has_others_grown
    hints = " ".join(hint.words for hint in what_next(found))
    assert "on battery" in hints
    assert "hot for" in hints


def test_the_guard_sleep_and_skipped_batches_are_told() -> None:
    run = trained(100, 2000)
    why = "memory pressure was yellow for 20 s"
    add(run, ev.Guard(time=0, action="shrink", why=why, micro_batch=1, freed=300 * MB))
    add(run, ev.Guard(time=0, action="pause", why="still yellow"))
    add(run, ev.Paused(time=0, iteration=100, by="guard", reason="still yellow"))
    run.time += 90
    add(run, ev.Guard(time=0, action="resume", why="green for 30 s"))
    add(run, ev.Resumed(time=0, iteration=100, paused_seconds=90))
    for iteration in (101, 102, 103):
        add(run, ev.Guard(time=0, action="skip_batch", why="not finite", iteration=iteration))
    add(run, ev.Guard(time=0, action="reload", why="5 in a row", iteration=100))
    run.time += 7200
    add(run, ev.Slept(time=0, seconds=7200))
    add(run, ev.Warned(time=0, message="The disk is nearly full."))
    add(run, ev.Warned(time=0, message="The disk is nearly full."))
    offer = {"batch_size": 2}
    add(run, ev.Guard(time=0, action="abort", why="red", offer=offer))
    run.end("aborted", "red", 3)
    assert told(run) == [
        "Began to train",
        f"The guard shrank the run: {why}; 1 row at a time; 300 MB came back",
        "The guard paused at 100 for 1 min 30 s: still yellow",
        "Skipped 3 batches, 101 to 103: not finite",
        "Went back to the checkpoint at 100: 5 in a row",
        "The machine slept for 2 h 00 min",
        "The disk is nearly full.",
        "The guard stopped the run: red",
        "Aborted at 100: red",
    ]
    assert "--set batch_size=2" in what_next(report_of(run))[0].words


def test_a_run_in_two_processes() -> None:
    run = trained(500, 1000)
    run.advance(60)
    run.time += 3600
    add(run, ev.Progress(time=0, stage="libraries", message=""))
    run.time += 10
    started = next(e for e in run.log if isinstance(e, ev.Started))
    add(run, replace(started, iteration=500))
    run.iteration = 500
    run.advance(500)
    run.finish()
    found = report_of(run)
    assert found.took.away == pytest.approx(3600)
    assert found.took.loading == pytest.approx(16, abs=1)
    assert [m.words for m in found.moments] == [
        "Began to train",
        "Went on from 500; 60 iterations were done again",
        "Completed at 1,000: all iterations were trained",
    ]
    assert len(found.series.running) == 2
    assert [p.iteration for p in found.series.loss] == sorted(
        {p.iteration for p in found.series.loss}
    )
    # What was undone was paid for all the same.
    assert found.took.training > 1050 * 2.1 * 0.9


@pytest.mark.parametrize(
    ("is_alive", "status", "begins"),
    [(True, "training", "Still at work: 500 of"), (False, "interrupted", "Interrupted at 500 of")],
)
def test_a_run_that_said_no_last_word(is_alive: bool, status: str, begins: str) -> None:
    found = report_of(trained(500, 1000), is_alive=is_alive)
    assert found.status == status
    assert words.result(found).startswith(begins)
    hints = [hint.command for hint in what_next(found)]
    assert (resume_command(found) in hints) == (not is_alive)


def test_a_failure_before_the_first_step() -> None:
    run = ScriptedRun()
    run.load(2)
    run.end("failed", "There is no model of that name.", 1)
    found = report_of(run)
    result = words.result(found)
    assert "before the first step" in result
    assert "There is no model of that name" in result
    assert commands(found) == ()
    assert "No step was trained." in as_page(found)


def test_what_was_learned_leads_to_advice() -> None:
    run = trained(2000, 2000)
    run.finish()
    falling = [replace(e, val_loss=3 - e.iteration / 1000) if isinstance(e, ev.Evaluated) else e
               for e in run.log]  # fmt: skip
    best = gather(falling, "maximum", "/r", is_alive=False)
    assert what_next(best)[0].command.endswith("--resume maximum --set iters=4000")
    risen = [replace(e, val_loss=1 + abs(e.iteration - 1000) / 1000, best=e.iteration == 1000)
             if isinstance(e, ev.Evaluated) else e for e in run.log]  # fmt: skip
    rose = gather(risen, "maximum", "/r", is_alive=False)
    assert rose.best_saved is not None
    assert rose.best_saved.iteration == 1000
    assert "was lowest at 1,000" in what_next(rose)[0].words
    unmeasured = [e for e in run.log if not isinstance(e, ev.Evaluated)]
    assert "validation_split" in what_next(gather(unmeasured, "m", "/r", is_alive=False))[0].words


def test_trouble_is_told_and_its_suggestion_given() -> None:
    run = trained(100, 2000)
    add(run, ev.Trouble(time=0, shape="plateau", iteration=100, words="It is flat.",
                        suggestion="Try more rows."))  # fmt: skip
    run.end("stopped", "as asked")
    assert "It is flat." in told(run)
    assert "Try more rows." in [hint.words for hint in what_next(report_of(run))]


class Tags(HTMLParser):
    """Checks that tags match, and gathers what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str | None] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.loads += [v for k, v in attrs if k in {"src", "href", "xlink:href", "srcset"}]
        if tag not in {"meta", "br", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not {"src", "href"} & {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing() -> None:
    page = as_page(report_of(stopped()))
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.loads == []
    assert not tags.seen & {"script", "link", "iframe", "img"}
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page
    for svg in page.split("<svg")[1:]:
        ET.fromstring(f"<svg{svg.partition('</svg>')[0]}</svg>")
    assert page.count("<svg") == 4
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_whatever_somebody_wrote_is_escaped() -> None:
    evil = '<script>alert("&")</script>'
    run = trained(40, 100)
    started = next(i for i, e in enumerate(run.log) if isinstance(e, ev.Started))
    run.log[started] = replace(
        run.log[started], model=evil, data=evil, device=evil, config={evil: evil}
    )  # pyright: ignore[reportCallIssue]
    add(run, ev.Sampled(time=0, iteration=40, prompt=evil, text=evil))
    add(run, ev.Warned(time=0, message=evil))
    run.end("failed", evil, 1)
    page = as_page(gather(run.log, evil, evil, is_alive=False))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_a_hundred_thousand_events_are_reduced_in_a_moment() -> None:
    run = trained(2000, 100_000)
    host = next(e for e in run.log if isinstance(e, ev.Host))
    steps = [e for e in run.log if isinstance(e, ev.Step)]
    began = run.time

    def events() -> Iterator[ev.Event]:
        yield from run.log
        for _ in range(25):
            yield from steps
            yield from [host] * 2000
        yield ev.Ended(time=began, status="stopped", iteration=2000, reason="")

    start = time.perf_counter()
    found = gather(events(), "long", "/r", is_alive=False)
    page = as_page(found)
    # A fifth of a second on the machine that it was written on.
    assert time.perf_counter() - start < 3
    assert len(found.series.loss) <= BUCKETS + 1
    assert len(page) < 300_000


def test_a_night_of_many_moments_is_told_in_few() -> None:
    run = trained(40, 2000)
    for _ in range(30):
        look(run, 100, pressure="yellow")
        look(run, 5, pressure="yellow")
        look(run, 100)
    assert told(run)[1:] == ["Memory was short 30 times, 2 min 30 s in all"]
    for i in range(60):
        look(run, 100, pressure="yellow")
        look(run, 100)
        add(run, ev.PolicyChanged(time=0, policy="watch" if i % 2 else "protect"))
    found = words_of(run)
    assert len(found) == 61
    assert found[30][2].endswith("more moments until the next line")
