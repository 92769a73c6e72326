"""A report in words: the same sentences for the terminal, the dashboard and the page."""

from __future__ import annotations

import math
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.figures import duration, loss, significant, size
from engine.model_files import is_local
from engine.report.advice import Hint, commands, what_next

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.report.facts import Report
    from engine.report.story import MomentKind

GLYPHS: dict[MomentKind, str] = {
    "began": "●", "went_on": "●", "pressure": "▲", "heat": "▲", "battery": "▲", "guard": "!",
    "pause": "‖", "sleep": "‖", "skip": "∅", "restore": "↺", "trouble": "▲", "warning": "▲",
    "policy": "!", "end": "■",
}  # fmt: skip
"""What each kind of moment is marked with, as in the dashboard."""
WIDTH = 100
LEAST_WIDTH = 40
_INDENT = 2
_GOOD_NIGHT = Hint("Nothing in particular: it went as planned.")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure as it was planned and as it was."""

    name: str
    planned: str
    real: str
    note: str = ""


def result(report: Report) -> str:
    """Say in one sentence what came of the run."""
    done, whole = f"{report.iteration:,}", f"{report.iterations:,}"
    took = duration(report.took.running)
    match report.status:
        case "completed":
            what = f"Completed all {whole} iterations in {took}"
        case "training" | "paused" | "loading":
            word = "Paused" if report.status == "paused" else "Still at work"
            what = f"{word}: {done} of {whole} iterations after {took}"
            if report.started is None:
                return "Loading; the first step is not ready yet."
        case "interrupted":
            what = f"Interrupted at {done} of {whole} after {took}: its process ended"
        case _:
            reason = f": {report.end.reason.rstrip('.')}" if report.end else ""
            at = f"at {done} of {whole}" if report.started else "before the first step"
            what = f"{report.status.capitalize()} {at} after {took}{reason}"
    return f"{what}{_learned(report)}."


def _learned(report: Report) -> str:
    measured = report.evaluations
    if not measured:
        return "" if math.isnan(report.train_loss) else f"; training loss {loss(report.train_loss)}"
    first, last = measured[0], measured[-1]
    if first is last:
        return f"; validation loss {loss(last.val_loss)}"
    best = report.best
    where = ""
    if best is not None and best.iteration != last.iteration:
        where = f", best {loss(best.val_loss)} at {best.iteration:,}"
    return f"; validation loss {loss(first.val_loss)} → {loss(last.val_loss)}{where}"


def best_checkpoint(report: Report) -> str:
    """Say which checkpoint to use."""
    saved = report.best_saved
    if saved is None:
        return "Nothing was saved."
    best = report.best
    is_best = best is not None and best.iteration == saved.iteration
    parts = [f"{'★ ' if is_best else ''}{saved.iteration:,}"]
    value = best.val_loss if best is not None and is_best else saved.val_loss
    if value is not None and math.isfinite(value):
        looks = [e.iteration for e in report.evaluations if e.iteration <= saved.iteration]
        at = "" if saved.iteration in looks else f", measured at {looks[-1]:,}" if looks else ""
        parts.append(f"validation loss {loss(value)} (perplexity {_perplexity(value)}){at}")
    if saved.bytes:
        parts.append(size(saved.bytes))
    parts.append(f"saved {stamp(saved.time)}")
    if not is_best:
        parts.append("the newest")
    return " · ".join(parts)


def comparison(report: Report) -> list[Row]:
    """Set what was planned beside what was."""
    budget = f"of a budget of {size(report.budget_bytes)}" if report.budget_bytes else ""
    rows = [Row("peak memory", size(report.planned_peak_bytes), size(report.peak_bytes), budget)]
    if report.footprint_bytes is not None:
        note = "what the system counts, everything included"
        rows.append(Row("footprint", "", size(report.footprint_bytes), note))
    took = report.took
    rows.append(Row("time", _planned_time(report), duration(took.running), _time_note(report)))
    spent = {
        "loading": took.loading, "training": took.training, "measuring": took.measuring,
        "paused": took.paused, "asleep": took.asleep,
    }  # fmt: skip
    rows += [
        Row(f"· {name}", "", duration(seconds)) for name, seconds in spent.items() if seconds >= 1
    ]
    if took.away >= 1:
        rows.append(Row("not running", "", duration(took.away), "between its processes"))
    rate = f"{significant(report.tokens_per_second)} tokens/s"
    rows.append(Row("pace", "", rate, f"{report.trained_tokens:,} tokens trained on"))
    if report.skipped_batches:
        count = report.skipped_batches
        rows.append(Row("skipped", "", f"{count:,} {'batch' if count == 1 else 'batches'}"))
    return rows


def _planned_time(report: Report) -> str:
    return duration(report.planned[0]) if report.planned else ""


def _time_note(report: Report) -> str:
    if not report.planned:
        return ""
    _, low, high = report.planned
    span = f"{duration(low)} to {duration(high)} planned" if low < high else ""
    if report.iterations and report.iteration < report.iterations:
        part = f"here for {100 * report.iteration / report.iterations:.0f} % of it"
        return f"{span}; {part}" if span else part
    return span


def timeline(report: Report) -> list[tuple[str, str, str]]:
    """Return the moments: when, a glyph, words."""
    told: list[tuple[str, str, str]] = []
    day = ""
    for moment in report.moments:
        local = time.localtime(moment.time)
        today, clock = time.strftime("%a %d %b", local), time.strftime("%H:%M", local)
        # The day is said where it changes.
        told.append((clock if today == day else f"{today} {clock}", GLYPHS[moment.kind],
                     one_line(moment.words)))  # fmt: skip
        day = today
    return told


def advice(report: Report) -> tuple[Hint, ...]:
    """Say what to try next."""
    return what_next(report) or (_GOOD_NIGHT,)


def stamp(moment: float) -> str:
    """Say a day and time: ``Mon 21 Sep 22:15``."""
    return time.strftime("%a %d %b %H:%M", time.localtime(moment))


def title(report: Report) -> str:
    """Say what was trained on what."""
    if report.started is None:
        return report.name
    return f"{_name(report.started.model)} on {_name(report.started.data)}"


def _name(source: str) -> str:
    if not is_local(source):
        return source
    path = Path(source)
    # Folders may be called only that, each in one that tells more.
    return f"{path.parent.name}/{path.name}" if path.name in ("model", "data") else path.name


def as_text(report: Report, width: int = WIDTH) -> list[str]:
    """Return a report in lines of plain text; what is to be typed is never broken.

    Args:
        report: of any run.
        width: cells of a line.
    """
    width = max(LEAST_WIDTH, width)
    lines = [report.name, *_wrapped(title(report), width, 0)]
    lines += ["", *_wrapped(result(report), width, 0)]
    lines += ["", "Best checkpoint", *_wrapped(best_checkpoint(report), width, _INDENT)]
    lines += ["", "What happened", *_timeline_lines(report, width)]
    lines += ["", "Planned and real", *_table_lines(report, width)]
    lines += ["", "What to try next"]
    for hint in advice(report):
        lines += _wrapped(hint.words, width, _INDENT + 2, "· ")
        lines += [f"    {hint.command}"] if hint.command else []
    if typed := commands(report):
        lines += ["", "Use it"]
        for command in typed:
            lines += [f"  {command.purpose}", f"    {command.text}"]
    return lines


def _timeline_lines(report: Report, width: int) -> Iterator[str]:
    told = timeline(report)
    room = max((len(when) for when, _, _ in told), default=0)
    for when, glyph, words in told:
        head = f"  {when:>{room}}  {glyph} "
        yield from _wrapped(words, width, len(head), head)


def _table_lines(report: Report, width: int) -> Iterator[str]:
    rows = [Row("", "planned", "real"), *comparison(report)]
    name, planned, real = (
        max(len(getattr(row, column)) for row in rows) for column in ("name", "planned", "real")
    )
    for row in rows:
        figures = f"  {row.name:<{name}}  {row.planned:>{planned}}  {row.real:>{real}}"
        if row.note and len(figures) + 2 + len(row.note) <= width:
            figures += f"  {row.note}"
        yield figures.rstrip()


def _wrapped(words: str, width: int, indent: int, head: str = "") -> list[str]:
    first = head if len(head) >= indent else " " * (indent - len(head)) + head
    return textwrap.wrap(
        one_line(words), width, initial_indent=first, subsequent_indent=" " * indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def one_line(text: str) -> str:
    """Put a text on one line that cannot disturb a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _perplexity(value: float) -> str:
    return f"{math.exp(min(value, 700.0)):,.2f}"
