"""``lora-tui plan``: memory and time before anything is downloaded or loaded."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import click

from engine.config import load_config
from engine.estimate import cache_limit
from engine.fit import fit
from engine.lengths import Lengths
from engine.machine import known_machine, this_machine
from engine.planning import make_plan
from engine.preset_plans import alternative, plan_presets
from tui.cli_run import overrides
from tui.terminal import say
from tui.verdict import of_budget, share, span, verdict
from tui.words import size

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.data.preflight import Inspected
    from engine.fit import Change, Fitted
    from engine.machine import Machine
    from engine.planning import RunPlan
    from tui.cli_run import Asked

COMPONENTS = {
    "base": "base weights",
    "adapters": "adapters",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "tail": "logits",
    "data": "data",
    "other": "other",
    "samples": "samples",
}
"""The parts of a plan's memory, in words."""


def show_plan(
    asked: Asked, *, is_fitted: bool, is_json: bool, speed: float | None, with_tokens: bool = False
) -> None:
    """Print what a run will take.

    Args:
        asked: the run.
        is_fitted: whether to change its settings until it fits.
        is_json: as JSON, for programs.
        speed: operations a second that training steps reach; None takes what was measured.
        with_tokens: whether to tokenise the data, which takes longer, and say all of it.

    Raises:
        InputError: when the settings are wrong, or nothing is known of the model.
    """
    config = load_config(asked.source, overrides(asked))
    machine = machine_to_plan_for(speed)
    inspected = _inspected(config) if with_tokens else None
    lengths = Lengths.exactly(inspected.lengths, "tokens counted") if inspected else None
    fitted = fit(config, machine, lengths) if is_fitted else None
    plan = fitted.plan if fitted else make_plan(config, machine, lengths=lengths)
    if is_json:
        values = plan.as_json()
        if fitted:
            values["fit"] = [dataclasses.asdict(change) for change in fitted.changes]
        if inspected:
            values["preflight"] = inspected.preflight.to_dict()
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    lines = [*_summary(plan), "", *_memory(plan)]
    if inspected:
        lines += ["", *inspected.preflight.lines()]
    if fitted:
        lines += ["", *_changes(fitted, asked.source)]
    elif not plan.fits:
        lines += ["", f"To make it fit: lora-tui plan {asked.source} --fit"]
    click.echo("\n".join(lines))


def _inspected(config: RunConfig) -> Inspected:
    """Read and tokenise the data, with a bar where somebody sees it."""
    from engine.inspection import inspect_run
    from tui.cli_run import quieten_libraries

    quieten_libraries()
    steps = inspect_run(config)
    done, total = next(steps)
    # A generator's result is in the exception that ends it.
    with click.progressbar(length=total, label="tokenising", file=sys.stderr) as bar:
        while True:
            bar.update(done - bar.pos)
            try:
                done, _ = next(steps)
            except StopIteration as end:
                return end.value


def machine_to_plan_for(speed: float | None = None) -> Machine:
    """Return this machine; the first time it is measured, and says so."""
    machine = known_machine()
    if machine is None:
        say("Measuring this machine once, for a few seconds…", sys.stderr)
        machine = this_machine()
    return machine if speed is None else dataclasses.replace(machine, flops_per_second=speed)


def preset_verdicts(machine: Machine) -> dict[str, str]:
    """Return what each preset's plan says of this machine, in words."""
    plans = plan_presets(machine)
    return {name: verdict(plan, alternative(name, plans)) for name, plan in plans.items()}


def _summary(plan: RunPlan) -> list[str]:
    config = plan.config
    epochs = f", {plan.epochs:.1f} passes over the rows" if plan.epochs else ""
    rows = f"{config.batch_size} row{'s' if config.batch_size > 1 else ''}"
    return [
        f"{config.model} on {config.data}",
        "",
        f"verdict   {verdict(plan)}",
        f"trains    {plan.trainable_parameters:,} of {plan.model.parameters:,} parameters; "
        f"{size(plan.adapter_bytes)} a checkpoint",
        f"step      {rows}, {plan.micro_batch} at a time; {plan.step_reason}",
        *_data(plan),
        f"work      {config.iters:,} iterations, {plan.updates:,} updates{epochs}",
        f"time      {span(plan.seconds) if plan.seconds else 'not known'}: {plan.lengths.basis}",
        f"machine   {plan.machine.device}{_speed(plan)}",
    ]


def _data(plan: RunPlan) -> list[str]:
    """What the training rows are, as far as that can be told at once."""
    seen = plan.seen
    if seen is None:
        return ["data      not looked at: it is read when the run begins"]
    if not seen.found:
        return [f"data      a run would be refused: {seen.problem}"]
    held_out = f", {seen.held_out:,} of them held out to measure on" if seen.held_out else ""
    asked = plan.config.data_format
    how = "detected; others: --set data_format=…" if asked == "auto" else "as data_format says"
    first = f"data      {seen.found}{held_out} ({how})"
    refused = f"a run would be refused: {seen.problem}" if seen.problem else ""
    more = (seen.dropped, refused, _too_long(plan))
    return [first, *(f"          {text}" for text in more if text)]


def _too_long(plan: RunPlan) -> str:
    """Say that rows are longer than the model, where that is sure."""
    most, longest = plan.model.max_positions, max(plan.lengths.low)
    if not most or min(longest, plan.config.max_seq_length) <= most:
        return ""
    return (
        f"a run would be refused: rows have {longest:,} tokens or more, but the model has {most:,} "
        f"positions. Set max_seq_length to {most} or less."
    )


def _speed(plan: RunPlan) -> str:
    speed = plan.machine.flops_per_second
    if speed is None:
        return ", speed not measured"
    return f", {speed / 1e12:.3g} TFLOP/s in training"


def _memory(plan: RunPlan) -> list[str]:
    parts = {name: getattr(plan.memory, name) for name in COMPONENTS}
    lines = [f"{COMPONENTS[name]:<14}{size(part):>8}" for name, part in parts.items() if part]
    lines.append(f"{'peak':<14}{size(plan.memory.peak):>8}  of {size(plan.budget)}")
    if not plan.machine.is_cpu:
        cache = cache_limit(plan.budget, plan.config.cache_limit_bytes)
        back = "" if plan.config.cache_limit_bytes else ", given back when a step needs it"
        lines.append(f"{'cache':<14}{size(cache):>8}  at most, kept for reuse{back}")
    return lines


def described(fitted: Fitted) -> list[str]:
    """Say what was changed so that a run fits, and what that costs."""
    if not fitted.changes:
        fits = fitted.plan.fits
        return ["It fits as it is." if fits else "Nothing was found that would help."]
    first = "Changed so that it fits, the cheapest first:"
    return [first, *(_change(change) for change in fitted.changes)]


def _changes(fitted: Fitted, source: str) -> list[str]:
    plan, changes = fitted.plan, fitted.changes
    if not changes:
        return described(fitted)
    settings = " ".join(f"--set {c.setting}={c.after}" for c in changes)
    end = (
        f"To run it so: lora-tui run {source} {settings}"
        if plan.fits
        else f"Even so it needs {of_budget(plan)}. Choose a smaller model."
    )
    return [*described(fitted), "", end]


def _change(change: Change) -> str:
    time = "" if change.time_ratio is None else f", {share(change.time_ratio)}"
    what = f"{change.setting}: {change.before} → {change.after}"
    return f"  {what}  saves {size(change.saved_bytes)}{time}; {change.cost}"
