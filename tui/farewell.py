"""The last words about a run, once the screen or the stream is over."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from engine import events as ev
from engine.runs import runs_folder
from tui import words

if TYPE_CHECKING:
    from engine.runs import RunDirectory
    from engine.session import Session

NOTHING_MADE = "Left while loading. Nothing was trained, and nothing was written."


def last_words(session: Session) -> str:
    """Say how a run ended and how to go on from there.

    Args:
        session: over, or left to itself when its last step does not end.
    """
    ended = next((e for e in reversed(session.events) if isinstance(e, ev.Ended)), None)
    saved = [e for e in session.events if isinstance(e, ev.CheckpointSaved)]
    if ended is None:
        sentences = ["The step in flight did not end in time, so it is lost."]
    elif ended.status == "failed":
        sentences = ["\n".join(part for part in (f"Error: {ended.reason}", ended.hint) if part)]
    elif ended.iteration == 0:
        return f"{ended.status.capitalize()} before the first step: {ended.reason}."
    else:
        sentences = [f"{ended.status.capitalize()} at {ended.iteration:,}: {ended.reason}."]
        sentences += _validation(session)
    if not saved:
        return " ".join(sentences)
    sentences.append(f"Saved at {saved[-1].iteration:,}.")
    lines = [" ".join(sentences), *_use(session)]
    if ended is None or ended.status != "completed":
        lines.append(f"Continue with: {resume_command(session.directory)}")
    return "\n".join(lines)


def resume_command(run: RunDirectory) -> str:
    """Return what to type to go on with a run."""
    return f"lora-tui run --resume {name_of(run)}"


def name_of(run: RunDirectory) -> str:
    """Return what to call a run on a command line."""
    return shlex.quote(run.name if run.path.parent == runs_folder() else str(run.path))


def is_complete(session: Session) -> bool:
    """Whether a run did all that it was to do."""
    last = session.events[-1] if session.events else None
    return isinstance(last, ev.Ended) and last.status == "completed"


def _validation(session: Session) -> list[str]:
    evaluations = [e for e in session.events if isinstance(e, ev.Evaluated)]
    if len(evaluations) < 2:
        return []
    first, last = evaluations[0], evaluations[-1]
    best = min(evaluations, key=lambda e: e.val_loss)
    where = "" if best is last else f" (best {words.loss(best.val_loss)} at {best.iteration:,})"
    return [f"Validation loss {words.loss(first.val_loss)} → {words.loss(last.val_loss)}{where}."]


def _use(session: Session) -> list[str]:
    adapters = str(session.directory.adapters)
    model = session.config.model
    if (folder := Path(model).expanduser()).exists():
        model = str(folder)
    prompt = next(iter(session.config.sample_prompts), "Hello")
    command = ["mlx_lm.generate", "--model", model, "--adapter-path", adapters, "--prompt", prompt]
    return [
        f"Adapters: {adapters}",
        f"Talk to them: lora-tui chat {name_of(session.directory)}",
        f"With mlx-lm alone: {shlex.join(command)}",
    ]
