"""Looks at and steers runs in other processes."""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from engine import events as ev
from engine.control import ControlClient
from engine.errors import RunError
from engine.event_words import in_words
from engine.journal import parse_line, read_outline
from engine.lock import is_held
from engine.runs import RunDirectory, find_run
from engine.view import RunView
from tui import words
from tui.farewell import name_of, resume_command
from tui.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterable

Errand = Literal["pause", "resume", "checkpoint", "stop"]
WAIT_SECONDS = 1.0
_ANSWERS: dict[Errand, type[ev.Event]] = {
    "pause": ev.Paused, "resume": ev.Resumed, "checkpoint": ev.CheckpointSaved, "stop": ev.Ended,
}  # fmt: skip
_ASKED: dict[Errand, str] = {
    "pause": "Pausing after the step in flight…",
    "resume": "Going on…",
    "checkpoint": "Saving after the step in flight…",
    "stop": "Saving and stopping…",
}


def attach(name: str | None, *, is_read_only: bool = False) -> int:
    """Show the dashboard of a run, whoever trains it; return the exit code."""
    # What loads and is read for the first screen stays: no garbage is among it.
    gc.disable()
    from tui.app import LoraTuiApp
    from tui.attached import AttachedRun, WatchedRun
    from tui.cli_dashboard import show_app
    from tui.cli_records import LookedAtRecords, RunRecords, fuse_screen
    from tui.controls import Bench
    from tui.terminal import StrayOutput, is_served

    run = find_run(name)
    shown = WatchedRun(run) if is_read_only else AttachedRun(run)
    records = LookedAtRecords() if is_read_only else RunRecords()
    with StrayOutput() as stray:
        app = LoraTuiApp(shown, bench=Bench(records, fuse_screen))
        exit_code = show_app(app, stray, lambda: None)
        # A browser's page reads the stream as packets.
        if not is_served():
            say(_left(run), stray.screen)
    return exit_code


def steer(name: str | None, errand: Errand) -> int:
    """Ask something of a run, wait until it is done, and say so.

    Raises:
        RunError: when nobody trains the run, or it cannot be reached.
    """
    run = find_run(name)
    facts = standing(run)
    if not facts["is_alive"]:
        hint = "" if facts["status"] == "completed" else f"Go on with: {resume_command(run)}"
        raise RunError(
            f"{run.name} is {facts['status']}: nothing trains that could {errand}.", hint
        )
    if (errand, facts["status"]) in {("pause", "paused"), ("resume", "training")}:
        click.echo(f"{run.name} is {facts['status']} already, at {facts['iteration']:,}.")
        return 0
    if facts["status"] == "loading":
        raise RunError(f"{run.name} is loading: it can {errand} once it trains.", "Try again then.")
    if errand == "checkpoint" and not facts["iteration"]:
        raise RunError("Nothing is trained yet, so there is nothing to save.", "Try again later.")
    with ControlClient(run.control_socket) as client:
        client.ask("subscribe", **{"from": -1})
        client.ask(errand)
        say(_ASKED[errand], sys.stderr)
        event = _awaited(client, errand)
    click.echo(in_words(event))
    if isinstance(event, ev.Ended) and event.status != "completed":
        click.echo(f"Continue with: {resume_command(run)}")
    return 0


def standing(run: RunDirectory) -> dict[str, Any]:
    """Say how a run stands, as plain facts."""
    view = RunView()
    view.apply_all(read_outline(run.journal_file))
    is_alive = is_held(run.lock_file)
    status = view.status if view.is_over or is_alive else "interrupted"
    if view.is_over and is_alive:
        # It goes on from where it ended.
        status = "loading"
    last, best = view.last_step, view.best
    newest = view.evaluations[-1] if view.evaluations else None
    is_training = is_alive and status == "training"
    left = last.eta_seconds if last and is_training else None
    return {
        "name": run.name,
        "path": str(run.path),
        "status": status,
        "is_alive": is_alive,
        "iteration": view.iteration,
        "iterations": view.started.iterations if view.started else 0,
        "progress": view.progress,
        "val_loss": newest.val_loss if newest else None,
        "best_val_loss": best.val_loss if best else None,
        "best_iteration": best.iteration if best else None,
        "saved_iteration": view.checkpoints[-1].iteration if view.checkpoints else None,
        "pressure": view.host.pressure if view.host and is_alive else None,
        "done_at": last.time + left if last and left is not None else None,
        "ended_at": view.ended.time if view.ended and status != "loading" else None,
        "reason": view.ended.reason if view.ended else "",
    }


def one_line(facts: dict[str, Any], now: float) -> str:
    """Say how a run stands in a line for a phone: ``63 % · val 1.29 · green · done 06:42``."""
    status = facts["status"]
    parts = [] if status in ("training", "completed") else [status]
    parts.append("completed" if status == "completed" else f"{int(100 * facts['progress'])} %")
    if facts["val_loss"] is not None:
        parts.append(f"val {facts['val_loss']:.2f}")
    if facts["pressure"]:
        parts.append(facts["pressure"])
    done = facts["ended_at"] if status == "completed" else facts["done_at"]
    if done is not None:
        parts.append(f"done {words.clock(done, now)}")
    if not facts["is_alive"] and status != "completed" and facts["saved_iteration"]:
        parts.append(f"saved at {facts['saved_iteration']:,}")
    return " · ".join(parts)


def show_status(name: str | None, *, is_json: bool, form: str | None, is_watching: bool) -> None:
    """Print how a run stands, again and again while it goes on if asked.

    Raises:
        UsageError: when the form names what is not known.
    """
    run = find_run(name)
    while True:
        facts = standing(run)
        if is_json:
            click.echo(json.dumps(facts, ensure_ascii=False))
        elif form is not None:
            click.echo(_formed(form, facts))
        else:
            click.echo(one_line(facts, time.time()))
        if not is_watching or not facts["is_alive"]:
            return
        sys.stdout.flush()
        time.sleep(WAIT_SECONDS)


def _formed(form: str, facts: dict[str, Any]) -> str:
    shown = {key: "" if value is None else value for key, value in facts.items()}
    now = time.time()
    done = facts["done_at"]
    shown |= {
        "line": one_line(facts, now),
        "percent": int(100 * facts["progress"]),
        "done": "" if done is None else words.clock(done, now),
    }
    try:
        return form.format_map(shown)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError):
        raise click.UsageError(f"--format takes {{NAME}} of: {', '.join(shown)}.") from None


def _awaited(client: ControlClient, errand: Errand) -> ev.Event:
    while True:
        for event in _events(client.read(WAIT_SECONDS)):
            if isinstance(event, _ANSWERS[errand] | ev.Ended):
                return event


def _events(lines: Iterable[bytes]) -> Iterable[ev.Event]:
    return (event for line in lines if (event := parse_line(line)) is not None)


def _left(run: RunDirectory) -> str:
    facts = standing(run)
    if facts["is_alive"]:
        return f"{run.name} goes on. Watch it again: lora-tui attach {name_of(run)}"
    if facts["status"] == "completed":
        return f"{run.name} is completed. Adapters: {run.adapters}"
    return f"{run.name} is {facts['status']}. Continue with: {resume_command(run)}"
