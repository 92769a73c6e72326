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
from tui.cli_probe import compared, corrected, rehearsed
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
    from engine.rehearsal import Rehearsed
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


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a plan is to tell, and how."""

    is_fitted: bool = False
    """Whether to change the settings until it fits."""
    is_json: bool = False
    """As JSON, for programs."""
    speed: float | None = None
    """Operations a second that training steps reach; None takes what was measured."""
    with_tokens: bool = False
    """Whether to tokenise the data, which takes longer, and say all of it."""
    with_probe: bool = False
    """Whether to load the model and try the widest step."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Told:
    """All that was found out for a plan."""

    plan: RunPlan
    fitted: Fitted | None
    inspected: Inspected | None
    probed: Rehearsed | None


def show_plan(asked: Asked, wanted: Wanted) -> None:
    """Print what a run will take.

    Raises:
        InputError: when the settings are wrong, or nothing is known of the model.
    """
    config = load_config(asked.source, overrides(asked))
    machine = machine_to_plan_for(wanted.speed)
    inspected = _inspected(config) if wanted.with_tokens else None
    lengths = Lengths.exactly(inspected.lengths, "tokens counted") if inspected else None
    fitted = fit(config, machine, lengths) if wanted.is_fitted else None
    plan = fitted.plan if fitted else make_plan(config, machine, lengths=lengths)
    probed = None
    if wanted.with_probe:
        probed = rehearsed(plan.config)
        # Now every row is counted: planned and measured are of the same width.
        lengths = Lengths.exactly(probed.lengths, "tokens counted")
        plan = make_plan(plan.config, machine, model=plan.model, lengths=lengths, seen=plan.seen)
    told = _Told(plan, fitted, inspected, probed)
    click.echo(_as_json(told) if wanted.is_json else "\n".join(_lines(told, asked.source)))


def _as_json(told: _Told) -> str:
    values = told.plan.as_json()
    if told.fitted:
        values["fit"] = [dataclasses.asdict(change) for change in told.fitted.changes]
    if told.inspected:
        values["preflight"] = told.inspected.preflight.to_dict()
    if told.probed:
        values["probe"] = told.probed.as_json()
    return json.dumps(values, ensure_ascii=False, indent=2)


def _lines(told: _Told, source: str) -> list[str]:
    plan, probed = told.plan, told.probed
    if probed is None:
        lines = [*_summary(plan), "", *_memory(plan)]
    else:
        now = corrected(plan, probed)
        lines = [*_summary(now), "", *compared(plan, probed, COMPONENTS), *_cache(plan)]
        plan = now
    if told.inspected:
        lines += ["", *told.inspected.preflight.lines()]
    if told.fitted:
        lines += ["", *_changes(told.fitted, source)]
    elif not plan.fits:
        lines += ["", f"To make it fit: lora-tui plan {source} --fit"]
    return lines


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
    return [*lines, *_cache(plan)]


def _cache(plan: RunPlan) -> list[str]:
    if plan.machine.is_cpu:
        return []
    cache = cache_limit(plan.budget, plan.config.cache_limit_bytes)
    back = "" if plan.config.cache_limit_bytes else ", given back when a step needs it"
    return [f"{'cache':<14}{size(cache):>8}  at most, kept for reuse{back}"]


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
