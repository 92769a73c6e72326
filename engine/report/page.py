"""A report as one page that needs nothing else: no network, no scripts, charts as inline SVG."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from engine.figures import UNKNOWN, duration, loss, significant, size
from engine.report import charts, words
from engine.report.advice import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.report.facts import Report

TEMPLATE = "page.html"
_WITH_UNIT = re.compile(r"(\d) (?=(?:s|min|h|d|%|[kMG]?B)\b)")
MOST_ANSWERS = 4
MOST_CHARACTERS = 500
"""Of a prompt or an answer."""
_TONES: dict[str, tuple[str, str]] = {
    "completed": ("good", "✓"),
    "training": ("good", "●"),
    "loading": ("warn", "◌"),
    "paused": ("warn", "‖"),
    "stopped": ("warn", "■"),
    "aborted": ("bad", "■"),
    "failed": ("bad", "✗"),
    "interrupted": ("bad", "✗"),
}


@dataclass(frozen=True, slots=True)
class Card:
    """One figure in large type."""

    name: str
    figure: str
    note: str = ""


def as_page(report: Report) -> str:
    """Return a report as HTML; whatever a model, a file or a person wrote is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["glue"] = _glue
    template = environment.from_string((files(__package__ or "") / TEMPLATE).read_text("utf-8"))
    tone, mark = _TONES.get(report.status, ("warn", "·"))
    drawn = {
        "loss": charts.loss_chart(report),
        "memory": charts.memory_chart(report),
        "pressure": charts.pressure_chart(report),
        "pace": charts.pace_chart(report),
    }
    return template.render(
        report=report,
        tone=tone,
        mark=mark,
        title=words.title(report),
        result=words.result(report),
        cards=list(_cards(report)),
        timeline=words.timeline(report),
        comparison=words.comparison(report),
        advice=words.advice(report),
        best_checkpoint=words.best_checkpoint(report),
        commands=commands(report),
        answers=_answers(report),
        settings=_settings(report),
        period=f"{words.stamp(report.began)} to {words.stamp(report.ended)}",
        device=report.started.device if report.started else "",
        # The charts escape their own words.
        **{name: Markup(picture) for name, picture in drawn.items()},
    )


def _glue(text: str) -> str:
    """Keep a number and its unit on one line."""
    return _WITH_UNIT.sub("\\1\u00a0", text)


def _cards(report: Report) -> Iterator[Card]:
    best, trained = report.best, report.train_loss
    if best is not None and math.isfinite(best.val_loss):
        perplexity = math.exp(min(best.val_loss, 700.0))
        note = f"perplexity {perplexity:,.2f}, at {best.iteration:,}"
        yield Card("best validation loss", loss(best.val_loss), note)
    else:
        yield Card("training loss", loss(trained), "over the last steps")
    if report.tested is not None:
        note = f"perplexity {report.tested.perplexity:,.2f} on {report.tested.rows:,} rows"
        yield Card("test loss", loss(report.tested.test_loss), note)
    planned = f"{duration(report.planned[0])} planned" if report.planned else "not planned"
    yield Card("time", duration(report.took.running), planned)
    budget = f"planned {size(report.planned_peak_bytes)}, budget {size(report.budget_bytes)}"
    yield Card("peak memory", size(report.peak_bytes), budget if report.started else "")
    rate = report.tokens_per_second
    note = f"tokens a second, {report.trained_tokens:,} in all"
    yield Card("pace", significant(rate) if rate else UNKNOWN, note)


def _answers(report: Report) -> list[tuple[str, str, str]]:
    base = {sample.prompt: sample.text for sample in report.samples if sample.base}
    return [
        (_short(sample.prompt), _short(base.get(sample.prompt, "")), _short(sample.text))
        for sample in report.samples
        if not sample.base
    ][:MOST_ANSWERS]


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def _settings(report: Report) -> list[tuple[str, str]]:
    """What was asked, one row a setting; what was left to the program is left out."""
    config: dict[str, Any] = report.started.config if report.started else {}
    return [(key, str(value)) for key, value in config.items() if value is not None]
