"""From the settings that somebody typed to a plan, and to a run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.config import load_config
from engine.data.sources import find_files
from engine.errors import ConfigError, InputError
from engine.fit import fit
from engine.hub import is_cached
from engine.machine import guessed_machine, known_machine
from engine.model_files import check_model, is_local
from engine.planning import make_plan
from tui.cli_plan import COMPONENTS
from tui.cli_run import Asked, overrides
from tui.draft import SETTINGS, Draft, Fitting, Outlook, Setting
from tui.verdict import span, verdict
from tui.words import size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.config import RunConfig
    from engine.planning import RunPlan

_NUMBER = re.compile(
    r"[-+]?[0-9][0-9_,]*(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?"
)


class MachinePlanner:
    """Plans drafts for this machine."""

    def begin(self, preset: str) -> Draft:
        """Return a preset's own settings."""
        config = load_config(preset)
        return Draft(preset, {setting.key: _text(config, setting.key) for setting in SETTINGS})

    def look(self, draft: Draft) -> Outlook:
        """Say what would come of a draft; what is wrong with it is in the answer."""
        problems = typed_wrong(draft)
        if problems:
            return Outlook(problems)
        try:
            config = load_config(draft.preset, overrides(asked_for(draft)))
        except ConfigError as error:
            return Outlook(_by_setting(error.problems))
        problems = _unusable(config)
        machine = known_machine() or guessed_machine()
        try:
            plan = make_plan(config, machine)
        except ConfigError as error:
            return Outlook({**_by_setting(error.problems), **problems})
        except InputError as error:
            if "model" in problems:
                return Outlook(problems)
            return Outlook(problems, notes=(f"{error.message} {error.hint}", *_notes(config)))
        return replace(_outlook(plan), problems=problems)

    def fit(self, draft: Draft) -> Fitting:
        """Change as little as is needed for a draft to fit this machine.

        Raises:
            InputError: when the draft is wrong, or nothing is known of its model.
        """
        config = load_config(draft.preset, overrides(asked_for(draft)))
        fitted = fit(config, known_machine() or guessed_machine())
        known = {setting.key for setting in SETTINGS}
        values, more = dict(draft.values), dict(draft.more)
        words: list[str] = []
        for change in fitted.changes:
            if change.setting in known:
                values[change.setting] = str(change.after)
            else:
                more[change.setting] = change.after
            words.append(f"{change.setting} {change.before} → {change.after}: {change.cost}")
        return Fitting(Draft(draft.preset, values, more), tuple(words))


def asked_for(draft: Draft) -> Asked:
    """Return what a draft asks for, as the command line would say it."""
    settings: list[str] = [f"{key}={value}" for key, value in draft.more.items()]
    for setting in SETTINGS:
        if setting.is_number:
            value = draft.values[setting.key].strip().replace(",", "")
            settings.append(f"{setting.key}={value or 'null'}")
    named = {key: draft.values[key].strip() for key in ("model", "data")}
    return Asked(draft.preset, named["model"], named["data"], tuple(settings))


def typed_wrong(draft: Draft) -> dict[str, str]:
    """Return what is empty and may not be, or should be a number and is none."""
    problems: dict[str, str] = {}
    for setting in SETTINGS:
        text = draft.values[setting.key].strip()
        if not text and not setting.may_be_empty:
            problems[setting.key] = _wanted(setting)
        elif text and setting.is_number and not _NUMBER.fullmatch(text):
            problems[setting.key] = "should be a number"
    return problems


def _wanted(setting: Setting) -> str:
    return "give a number" if setting.is_number else f"give a {setting.note}"


def _text(config: RunConfig, key: str) -> str:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _by_setting(problems: Iterable[str]) -> dict[str, str]:
    """Put each problem to the setting that it begins with."""
    found: dict[str, str] = {}
    known = {setting.key for setting in SETTINGS}
    for problem in problems:
        key, _, words = problem.partition(": ")
        place, text = (key, words) if key in known else ("", problem)
        found[place] = f"{found[place]}; {text}" if place in found else text
    return found


def _unusable(config: RunConfig) -> dict[str, str]:
    """Look for a local model and local data, as a run does before it begins."""
    problems: dict[str, str] = {}
    try:
        check_model(config)
    except InputError as error:
        problems["model"] = error.message
    if is_local(config.data) and not config.hf_dataset:
        try:
            find_files(Path(config.data).expanduser())
        except InputError as error:
            problems["data"] = error.message
    return problems


def _outlook(plan: RunPlan) -> Outlook:
    config = plan.config
    epochs = f", {plan.epochs:.1f} passes over the rows" if plan.epochs else ""
    updates = f"{plan.updates:,} update{'s' if plan.updates != 1 else ''}"
    parts = tuple((name, getattr(plan.memory, key)) for key, name in COMPONENTS.items())
    return Outlook(
        verdict=verdict(replace(plan, seconds=None)),
        fits=plan.fits,
        peak_bytes=plan.memory.peak,
        budget_bytes=plan.budget,
        parts=tuple(part for part in parts if part[1]),
        facts=(
            ("time", _time(plan)),
            ("work", f"{config.iters:,} iterations, {updates}{epochs}"),
            ("step", f"{config.batch_size} rows, {plan.micro_batch} at a time"),
            (
                "trains",
                f"{plan.trainable_parameters:,} of {plan.model.parameters:,} parameters, "
                f"{size(plan.adapter_bytes)} a checkpoint",
            ),
        ),
        notes=_notes(config),
    )


def _time(plan: RunPlan) -> str:
    return (
        f"about {span(plan.seconds)}" if plan.seconds else "not known: this machine is unmeasured"
    )


def _notes(config: RunConfig) -> tuple[str, ...]:
    missing: list[str] = []
    if not is_local(config.model) and not is_cached(config.model):
        missing.append("the model")
    if not is_local(config.data) or config.hf_dataset:
        missing.append("the data, whose rows are counted then")
    return (f"Downloaded first: {' and '.join(missing)}.",) if missing else ()
