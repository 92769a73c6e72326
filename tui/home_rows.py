"""What home says of runs and presets: their rows, and what is known of the one under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from tui.spark import spark
from tui.standing import standing_span
from tui.words import day, loss, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tui.controls import PresetLine, RunLine

WIDE = 92
"""Cells from which a row has room for the counts and a longer curve."""
WIDEST = 124
"""Cells from which it also has the model."""
_STATUS, _VAL, _DAY, _PRESET, _MODEL = 13, 9, 11, 10, 28
_STYLES = {"good": "$text-success", "warn": "$text-warning", "bad": "$text-error"}
_MUTED = "$foreground 60%"
_GAP = "  "
LOGO = "█   █▀█ █▀█ ▄▀█   ▀█▀ █ █ █\n█▄▄ █▄█ █▀▄ █▀█    █  █▄█ █"
SENTENCE = "Fine-tune a language model overnight,\nand watch it from here."
WELCOME = (
    "New here? Press enter on demo: it trains a tiny model in about a minute and shows the whole "
    "screen.\n"
    "Then n makes a run of your own: choose model and data, and see memory and time before it "
    "starts.\n"
    "Stopping saves; nothing is ever lost. Your runs will be listed here."
)
DEMO = "demo"
"""The preset to begin with."""
SORTS = ("newest", "best loss", "name")
"""In the order in which a key goes through them."""


def run_row(run: RunLine, width: int, now: float) -> Content:
    """Write a run into a row."""
    status, style = standing_span(run.status)
    is_wide = width >= WIDE
    done = _done(run, is_wide=is_wide)
    curve = 24 if is_wide else 8
    model = f"{_GAP}{shorten(run.model, _MODEL):<{_MODEL}}" if width >= WIDEST else ""
    taken = _STATUS + len(done) + curve + _VAL + _DAY + len(model) + 3 * len(_GAP)
    name_width = max(1, width - taken)
    val = f"val {loss(run.val_loss)}" if run.val_loss is not None else ""
    return Content.assemble(
        (f"{shorten(run.name, name_width - 1):<{name_width}}", "bold"),
        (model, _MUTED),
        (f"{status:<{_STATUS}}", _STYLES.get(style, _MUTED)),
        f"{done}{_GAP}",
        (f"{spark(run.losses, curve):<{curve}}", "$primary"),
        f"{_GAP}{val:<{_VAL}}{_GAP}",
        (f"{day(run.time, now):>{_DAY}}", _MUTED),
    )


def _done(run: RunLine, *, is_wide: bool) -> str:
    if is_wide:
        return f"{f'{run.iteration:,} / {run.iterations:,}':>17}"
    share = 100 * run.iteration // run.iterations if run.iterations else 0
    return f"{share:>4} %"


def preset_row(preset: PresetLine, width: int) -> Content:
    """Write a preset into a row: its name, what it is in short, whether it fits."""
    glyph, style = _verdict_style(preset)
    words = f"{glyph} {preset.short_verdict}" if preset.short_verdict else ""
    room = max(1, width - _PRESET - len(words) - 2 * len(_GAP))
    text = preset.description if len(preset.description) <= room else _headline(preset.description)
    return Content.assemble(
        (f"{shorten(preset.name, _PRESET):<{_PRESET}}{_GAP}", "bold"),
        f"{shorten(text, room):<{room}}",
        (f"{_GAP}{words}", style),
    )


def _verdict_style(preset: PresetLine) -> tuple[str, str]:
    if preset.fits is None:
        return "", _MUTED
    return ("✓", _STYLES["good"]) if preset.fits else ("✗", _STYLES["bad"])


def _headline(description: str) -> str:
    return description.partition(":")[0].partition(". ")[0].rstrip(".")


def run_details(run: RunLine) -> Content:
    """Say what is known of a run besides its row."""
    status, style = standing_span(run.status)
    what = " on ".join(part for part in (run.model, run.data) if part)
    return Content.assemble(
        (status, _STYLES.get(style, _MUTED)),
        f" at {run.iteration:,} of {run.iterations:,}{_safe(run)}\n",
        (f"{what}\n" if what else "", ""),
        (run.path, _MUTED),
    )


def _safe(run: RunLine) -> str:
    """What somebody can go on from."""
    if run.is_going_on:
        return " · in another process"
    if run.saved_iteration is None:
        return " · nothing saved"
    lost = run.iteration - run.saved_iteration
    again = f", {lost:,} to repeat" if run.can_go_on and lost > 0 else ""
    return f" · saved at {run.saved_iteration:,}{again}"


def preset_details(preset: PresetLine, *, is_measured: bool) -> Content:
    """Say all of a preset."""
    glyph, style = _verdict_style(preset)
    words = f"{glyph} {preset.verdict}" if preset.verdict else "looking whether it fits…"
    later = "" if is_measured or not preset.verdict else " · m measures how long it takes here"
    return Content.assemble((words, style), (f"{later}\n", _MUTED), preset.description)


def chosen(runs: Sequence[RunLine], wanted: str, order: str) -> list[RunLine]:
    """Return the runs that a filter lets through, in an order.

    Args:
        runs: the newest first.
        wanted: words that all have to be in a run's name, status, model or data.
        order: one of ``SORTS``.
    """
    words = wanted.lower().split()
    found = [run for run in runs if all(word in _searched(run) for word in words)]
    if order == "name":
        found.sort(key=lambda run: run.name)
    elif order == "best loss":
        found.sort(key=lambda run: (run.val_loss is None, run.val_loss or 0.0))
    return found


def _searched(run: RunLine) -> str:
    return f"{run.name} {run.status} {run.model} {run.data}".lower()
