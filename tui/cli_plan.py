"""``lora-tui plan``: memory and time before anything is downloaded or loaded."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import TYPE_CHECKING

import click

from engine.config import load_config
from engine.fit import fit
from engine.machine import known_machine, this_machine
from engine.planning import make_plan
from engine.preset_plans import alternative, plan_presets
from tui.cli_run import overrides
from tui.terminal import say
from tui.verdict import of_budget, share, span, verdict
from tui.words import size

if TYPE_CHECKING:
    from engine.fit import Change
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
}
"""The parts of a plan's memory, in words."""


def show_plan(asked: Asked, *, is_fitted: bool, is_json: bool, speed: float | None) -> None:
    """Print what a run will take.

    Args:
        asked: the run.
        is_fitted: whether to change its settings until it fits.
        is_json: as JSON, for programs.
        speed: operations a second that training steps reach; None takes what was measured.

    Raises:
        InputError: when the settings are wrong, or nothing is known of the model.
    """
    config = load_config(asked.source, overrides(asked))
    machine = machine_to_plan_for(speed)
    changes: tuple[Change, ...] = ()
    if is_fitted:
        fitted = fit(config, machine)
        plan, changes = fitted.plan, fitted.changes
    else:
        plan = make_plan(config, machine)
    if is_json:
        values = plan.as_json()
        if is_fitted:
            values["fit"] = [dataclasses.asdict(change) for change in changes]
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    lines = [*_summary(plan), "", *_memory(plan)]
    if is_fitted:
        lines += ["", *_changes(plan, changes, asked.source)]
    elif not plan.fits:
        lines += ["", f"To make it fit: lora-tui plan {asked.source} --fit"]
    click.echo("\n".join(lines))


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
        f"work      {config.iters:,} iterations, {plan.updates:,} updates{epochs}",
        f"time      {span(plan.seconds) if plan.seconds else 'not known'}: {plan.lengths.basis}",
        f"machine   {plan.machine.device}{_speed(plan)}",
    ]


def _speed(plan: RunPlan) -> str:
    speed = plan.machine.flops_per_second
    if speed is None:
        return ", speed not measured"
    return f", {speed / 1e12:.3g} TFLOP/s in training"


def _memory(plan: RunPlan) -> list[str]:
    parts = {name: getattr(plan.memory, name) for name in COMPONENTS}
    lines = [f"{COMPONENTS[name]:<14}{size(part):>8}" for name, part in parts.items() if part]
    return [*lines, f"{'peak':<14}{size(plan.memory.peak):>8}  of {size(plan.budget)}"]


def _changes(plan: RunPlan, changes: tuple[Change, ...], source: str) -> list[str]:
    if not changes:
        return ["It fits as it is." if plan.fits else "Nothing was found that would help."]
    lines = [_change(change) for change in changes]
    settings = " ".join(f"--set {c.setting}={c.after}" for c in changes)
    end = (
        f"To run it so: lora-tui run {source} {settings}"
        if plan.fits
        else f"Even so it needs {of_budget(plan)}. Choose a smaller model."
    )
    return ["Changed so that it fits, the cheapest first:", *lines, "", end]


def _change(change: Change) -> str:
    time = "" if change.time_ratio is None else f", {share(change.time_ratio)}"
    what = f"{change.setting}: {change.before} → {change.after}"
    return f"  {what}  saves {size(change.saved_bytes)}{time}; {change.cost}"
