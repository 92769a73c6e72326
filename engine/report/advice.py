"""What to try next, and what to type to use what was trained."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.figures import duration, loss, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.report.facts import Report

STILL_FALLING = 0.01
"""Share of the loss that the last evaluation gained over the one before, and a longer run would."""
PAST_BEST = 0.02
"""Share above its best at which a validation loss has clearly turned."""
ROOMY = 0.6
"""Share of the budget below which more rows fit at once."""
MATTERS_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Command:
    """One thing to type."""

    purpose: str
    text: str


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing to try."""

    words: str
    command: str = ""
    """What does it; empty where there is more to decide."""


def what_next(report: Report) -> tuple[Hint, ...]:
    """Return what to try, the most useful first; each names what to change."""
    hints = [
        *_go_on(report),
        *(Hint(trouble.suggestion) for trouble in report.troubles),
        *_learning(report),
        *(Hint(words) for words in (*_memory(report), *_machine(report))),
    ]
    return tuple(dict.fromkeys(hints))


def _go_on(report: Report) -> Iterator[Hint]:
    if report.offer:
        changes = " ".join(f"--set {key}={value}" for key, value in report.offer.items())
        yield Hint(f"It needs less memory with {changes}: give that to lora-tui run.")
    if report.status in {"stopped", "aborted", "failed", "interrupted"}:
        saved = f"Go on from {report.saved[-1].iteration:,}:" if report.saved else ""
        yield Hint(saved or "Nothing was saved to go on from; begin anew:", resume_command(report))


def _learning(report: Report) -> Iterator[Hint]:
    best, told = report.best, {trouble.shape for trouble in report.troubles}
    if not report.evaluations:
        if report.iteration:
            yield Hint(
                "Nothing was measured on rows that it did not train on. Give it validation rows, "
                "or let validation_split hold some back."
            )
        return
    if best is None or len(report.evaluations) < 3 or told & {"overfitting", "plateau"}:
        return
    last = report.evaluations[-1]
    earlier = [e for e in report.evaluations if e.iteration < last.iteration] or [last]
    is_falling = last.val_loss < earlier[-1].val_loss * (1 - STILL_FALLING)
    if last.val_loss > best.val_loss * (1 + PAST_BEST):
        yield Hint(
            f"The validation loss was lowest at {best.iteration:,} and rose to "
            f"{loss(last.val_loss)} since: use {at_best(report)}, and next time fewer iterations, "
            "a lower learning_rate or more data."
        )
    elif report.status == "completed" and is_falling:
        longer = f"{resume_command(report)} --set iters={2 * report.iterations}"
        yield Hint("The validation loss was still falling at the end. Train it longer:", longer)


def _memory(report: Report) -> Iterator[str]:
    started = report.started
    if started is None or not report.peak_bytes or report.strain.short:
        return
    used = max(report.peak_bytes, report.footprint_bytes or 0)
    if used < ROOMY * started.budget and started.micro_batch < started.batch_size:
        rows = min(started.batch_size, 2 * started.micro_batch)
        yield (
            f"{size(started.budget - used)} of the budget were never used: "
            f"--set micro_batch_size={rows} gives the same result, probably sooner."
        )


def _machine(report: Report) -> Iterator[str]:
    strain, took = report.strain, report.took
    if strain.short >= MATTERS_SECONDS:
        lasted = duration(strain.short)
        if strain.has_others_grown:
            yield f"Other programs made memory short for {lasted}: close them before the night."
        else:
            yield (
                f"Memory was short for {lasted}: a smaller max_seq_length or memory_budget_bytes "
                "leaves the machine more."
            )
    if strain.hot >= MATTERS_SECONDS:
        yield f"It was hot for {duration(strain.hot)}: more air around it makes steps shorter."
    if strain.on_battery >= MATTERS_SECONDS:
        yield "It ran on battery for a while: plug it in before the night."
    if took.asleep >= MATTERS_SECONDS:
        yield (
            f"The machine slept for {duration(took.asleep)}: keep its lid open and its power "
            "plugged in, and see lora-tui doctor."
        )


def at_best(report: Report) -> str:
    """Return how to name a run's best checkpoint."""
    saved, best = report.best_saved, report.best
    is_best = saved is not None and best is not None and saved.iteration == best.iteration
    return shlex.quote(f"{report.name}@best" if is_best else report.name)


def resume_command(report: Report) -> str:
    """Return what to type to go on with a run."""
    return f"lora-tui run --resume {shlex.quote(report.name)}"


def commands(report: Report) -> tuple[Command, ...]:
    """Return what to type to use what was trained; nothing where nothing was saved."""
    if report.started is None or not report.saved:
        return ()
    model = report.started.model
    if (local := Path(model).expanduser()).exists():
        model = str(local)
    prompts = report.started.config.get("sample_prompts") or ["Hello"]
    prompt, run = str(prompts[0]), at_best(report)
    adapters = str(Path(report.folder) / "adapters")
    mlx = ["mlx_lm.generate", "--model", model, "--adapter-path", adapters, "--prompt", prompt]
    return (
        Command("Talk to it, the base beside it", f"lora-tui chat {run}"),
        Command("One answer", f"lora-tui generate {run} {shlex.quote(prompt)}"),
        Command("Loss and perplexity on rows held out", f"lora-tui evaluate {run}"),
        Command("Base and adapter as one model", f"lora-tui fuse {run}"),
        Command("The newest adapter, with mlx-lm alone", shlex.join(mlx)),
    )
