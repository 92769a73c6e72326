"""``lora-tui plan --probe``: the model is loaded, and the plan stands beside what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from engine.errors import DownloadNeededError, RunError
from engine.hub import cache_folder, is_reachable
from engine.model_files import is_local
from tui.terminal import data_stream, has_person
from tui.words import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.config import RunConfig
    from engine.planning import RunPlan
    from engine.rehearsal import Rehearsed
    from engine.use.worker import Note


def rehearsed(config: RunConfig) -> Rehearsed:
    """Load the model, try the widest step, and return what it took; says on stderr what goes on.

    Asks whoever sits there before something is downloaded.

    Raises:
        InputError: what a run with these settings would raise.
        DownloadNeededError: when something is to be downloaded, and nobody is there to ask.
        KeyboardInterrupt: when it was stopped; nothing is left of it.
    """
    if not is_local(config.model) or not is_local(config.data) or config.hf_dataset:
        # Settles at once, and not after many retries, whether what is here has to do.
        is_reachable()
    try:
        return _rehearsed(config, may_download=False)
    except DownloadNeededError as error:
        question = f"{error.message}\nDownload it to {cache_folder()}?"
        if not has_person() or not click.confirm(question, default=True, err=True):
            raise
    return _rehearsed(config, may_download=True)


def _rehearsed(config: RunConfig, *, may_download: bool) -> Rehearsed:
    from tui.cli_use import working

    def job(should_stop: Callable[[], bool]) -> Iterator[Note | Rehearsed]:
        from engine.rehearsal import rehearse

        return rehearse(config, should_stop, may_download=may_download)

    # What libraries print is no part of the plan.
    with data_stream():
        for found in working(job):
            return found
    raise RunError("The widest step was not tried.")


def corrected(plan: RunPlan, found: Rehearsed) -> RunPlan:
    """Return a plan with what was measured in the place of what was planned."""
    return replace(
        plan,
        memory=found.probed.plan,
        budget=found.budget_bytes,
        micro_batch=found.probed.micro_batch,
        step=found.step,
        step_reason=found.step_reason,
        seconds=found.seconds,
        lengths=replace(plan.lengths, basis=f"at {found.probed.seconds:.3g} s for the widest step"),
    )


def compared(plan: RunPlan, found: Rehearsed, names: dict[str, str]) -> list[str]:
    """Say planned beside measured memory, part by part, and what the widest step took.

    Args:
        plan: the plan before anything was loaded.
        found: what was measured.
        names: the parts, in words.
    """
    probed, planned = found.probed, plan.memory
    pairs = [
        (name, getattr(planned, key), getattr(probed.plan, key)) for key, name in names.items()
    ]
    fewer = ""
    if probed.micro_batch != plan.micro_batch:
        fewer = f", {probed.micro_batch} at a time and not {plan.micro_batch} as planned"
    return [
        f"tried     the widest step, twice: {probed.rows} × {probed.width:,} tokens{fewer}",
        "",
        f"{'':<14}{'planned':>8}{'probed':>10}",
        *(_row(*pair) for pair in pairs if any(pair[1:])),
        f"{_row('peak', planned.peak, probed.plan.peak)}  of {size(found.budget_bytes)}, "
        f"{_share(planned.peak, probed.plan.peak)}",
    ]


def _row(name: str, planned: int, measured: int) -> str:
    return f"{name:<14}{size(planned):>8}{size(measured):>10}"


def _share(planned: int, measured: int) -> str:
    percent = 100 * (measured / planned - 1)
    if abs(percent) < 0.5:
        return "as planned"
    return f"{abs(percent):.0f} % {'over' if percent > 0 else 'under'} the plan"
