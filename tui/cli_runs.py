"""The list of runs, and how lists are printed."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from engine.runs import RunSummary


@click.command()
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
@click.option(
    "--sort",
    type=click.Choice(["time", "loss"]),
    default="time",
    show_default=True,
    help="The newest first, or the lowest validation loss.",
)
def runs(is_json: bool, sort: str) -> None:
    """List the runs on this machine, the newest first."""
    from engine.runs import list_runs

    found = list_runs()
    if sort == "loss":
        found.sort(key=lambda run: math.inf if run.val_loss is None else run.val_loss)
    if is_json:
        print_json([_as_json(run) for run in found])
    elif not found:
        click.echo("There are no runs yet. Start one: lora-tui demo", err=True)
    else:
        print_columns([_in_columns(run) for run in found])


def print_json(value: object) -> None:
    """Print a value for programs."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_columns(rows: list[tuple[str, ...]]) -> None:
    """Print rows of which each column begins at one place."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _as_json(run: RunSummary) -> dict[str, Any]:
    return {
        "name": run.directory.name,
        "path": str(run.directory.path),
        "status": run.status,
        "iteration": run.iteration,
        "iterations": run.iterations,
        "val_loss": run.val_loss,
        "time": run.time,
        "saved_iteration": run.saved_iteration,
        "lost_iterations": run.lost_iterations if run.status == "interrupted" else 0,
        "lost_seconds": run.lost_seconds,
    }


def _in_words(run: RunSummary) -> str:
    """What a run that ended early can go on from."""
    if run.status in {"completed", "training", "loading", "paused"}:
        return ""
    if run.saved_iteration is None:
        return "nothing saved"
    lost = run.lost_iterations
    again = f", {lost:,} to repeat" if lost and run.status == "interrupted" else ""
    return f"saved at {run.saved_iteration:,}{again}"


def _in_columns(run: RunSummary) -> tuple[str, ...]:
    from tui import words

    return (
        run.directory.name,
        run.status,
        f"{run.iteration:,} / {run.iterations:,}",
        _in_words(run),
        "" if run.val_loss is None else f"val {words.loss(run.val_loss)}",
        words.clock(run.time, time.time()),
    )


COMMANDS = (runs,)
