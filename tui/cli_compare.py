"""``lora-tui compare``: which of several checkpoints is the best, and why."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from tui.beside import may_load, sure_option
from tui.cli_use import INTERRUPTED, model_option, say, score_values, working

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.use.compare import Comparison, Contender

PLOT_SIZE = (78, 16)
MOST_POINTS = 8


@click.command()
@click.argument("runs", metavar="RUN[@ITERATION]…", nargs=-1, required=True)
@model_option
@click.option("--data", metavar="DATA", help="Other rows than the first run's own.")
@click.option("--rows", "limit", type=click.IntRange(1), help="The most rows to measure.")
@sure_option
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def compare(
    runs: tuple[str, ...],
    model: str | None,
    data: str | None,
    limit: int | None,
    is_sure: bool,
    is_json: bool,
) -> int:
    """Put checkpoints or runs beside each other on the same rows, and pick the best."""
    from engine.use.chosen import choose

    several = list({c.label: c for c in (choose(name, model) for name in runs)}.values())
    if not may_load(several, is_sure=is_sure):
        return 0

    def job(should_stop: Callable[[], bool]) -> Iterator[Any]:
        from engine.use.compare import compare as measure

        return measure(several, should_stop, data=data, limit=limit or -1)

    try:
        for comparison in working(job):
            if is_json:
                click.echo(json.dumps(_as_json(comparison), ensure_ascii=False, indent=2))
            else:
                click.echo("\n".join(_in_words(comparison)))
    except KeyboardInterrupt:
        say("Stopped; nothing was compared.")
        return INTERRUPTED
    return 0


def _in_words(comparison: Comparison) -> Iterator[str]:
    yield from _losses(comparison)
    yield from _settings(comparison)
    yield from _curves(comparison)
    yield from _answers(comparison)
    sure = "" if comparison.is_sure else " The next is so close that chance may decide."
    yield f"\nBest by {comparison.judged_by}: {comparison.best}.{sure}"


def _losses(comparison: Comparison) -> Iterator[str]:
    from tui import words

    parts = list(comparison.contenders[0].scores)
    rows = [["", *parts]]
    for contender in comparison.contenders:
        cells = [
            f"{words.loss(score.loss)} (perplexity {score.perplexity:,.2f})"
            for score in contender.scores.values()
        ]
        mark = "★ " if contender.label == comparison.best else "  "
        rows.append([mark + contender.label, *cells])
    yield f"Loss on {comparison.data}"
    yield from _columns(rows)


def _settings(comparison: Comparison) -> Iterator[str]:
    if not comparison.differing:
        yield "\nThe settings are the same."
        return
    yield "\nSettings that differ"
    rows = [["", *(c.label for c in comparison.contenders)]]
    for key, values in comparison.differing.items():
        rows.append([f"  {key}", *("–" if value is None else str(value) for value in values)])
    yield from _columns(rows)


def _curves(comparison: Comparison) -> Iterator[str]:
    """The runs' own validation losses over one another."""
    curves = {c.label.rpartition("@")[0]: c.curve for c in comparison.contenders if c.curve}
    if not curves:
        return
    yield "\nValidation loss by iteration, as the runs measured it"
    letters = dict(zip("abcdefghijklmnopqrstuvwxyz", curves, strict=False))
    for letter, name in letters.items():
        curve = curves[name]
        shown = curve if len(curve) <= MOST_POINTS else [*curve[:: -(-len(curve) // 7)], curve[-1]]
        points = "  ".join(f"{iteration:,}: {loss:.3f}" for iteration, loss in shown)
        yield f"  {letter}  {name}  {points}"
    if sys.stdout.isatty() and any(len(curve) > 1 for curve in curves.values()):
        from tui.plot import overlay

        yield from overlay({letter: curves[name] for letter, name in letters.items()}, PLOT_SIZE)


def _answers(comparison: Comparison) -> Iterator[str]:
    from tui import words

    width = max(len(c.label) for c in comparison.contenders)
    for prompt in comparison.contenders[0].answers:
        yield f"\n› {words.one_line(prompt)}"
        for contender in comparison.contenders:
            yield f"  {contender.label:<{width}}  {words.one_line(contender.answers[prompt])}"


def _columns(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()


def _as_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "data": comparison.data,
        "judged_by": comparison.judged_by,
        "best": comparison.best,
        "is_sure": comparison.is_sure,
        "differing": comparison.differing,
        "runs": [_contender_as_json(contender) for contender in comparison.contenders],
    }


def _contender_as_json(contender: Contender) -> dict[str, Any]:
    return {
        "label": contender.label,
        "base": contender.base,
        "scores": {part: score_values(score) for part, score in contender.scores.items()},
        "curve": [list(point) for point in contender.curve],
        "answers": contender.answers,
    }


COMMANDS = (compare,)
