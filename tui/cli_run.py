"""From the words of a command line to a run: settings, cheap checks, and the front end."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from engine.config import load_config, parse_override
from engine.data.sources import find_files
from engine.errors import ConfigError, InputError
from engine.hub import cache_folder, is_cached, is_reachable
from engine.journal import read_history
from engine.model_files import check_model, is_local
from engine.preset_files import preset_names
from engine.runs import RunDirectory, check_writable, home, new_run_path
from engine.view import TRACE_SAMPLES
from tui.cli_resume import prepare_resume
from tui.terminal import data_stream, has_person, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.config import RunConfig
    from engine.resume import Resume
    from engine.session import Session

Output = Literal["dashboard", "plain", "json", "detached", "background"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A run as somebody asked for it."""

    source: str
    """A preset's name or a YAML file."""
    model: str | None = None
    data: str | None = None
    settings: tuple[str, ...] = ()
    """``key=value`` each, on top of the source."""
    run_dir: Path | None = None
    is_sure: bool = False
    """Whether every question is answered with yes."""
    is_resume: bool = False
    """Whether ``source`` is a run to go on with; empty means the newest."""
    is_fitted: bool = False
    """Whether settings are changed until the run fits this machine."""


def run(asked: Asked, output: Output | None) -> int:
    """Train what was asked for, from the checks to the last words; return the exit code.

    Args:
        asked: the run.
        output: None chooses the dashboard where there is a terminal, and plain lines where not.

    Raises:
        InputError: when something is wrong that shows before loading; nothing was created.
    """
    quieten_libraries()
    output = output or ("dashboard" if has_person() else "plain")
    if output != "dashboard":
        # Only a screen is in a hurry, and lets it begin again itself.
        gc.enable()
    if asked.is_resume:
        config, directory, resume = prepare_resume(
            asked.source or None, overrides(asked), asked.run_dir
        )
    else:
        (config, directory), resume = prepare(asked), None
    may_begin = _may_download(config, is_sure=asked.is_sure) and _may_begin_short_of_memory(
        directory.path, is_sure=asked.is_sure
    )
    if not may_begin:
        say("Nothing was done.", sys.stderr)
        return 0
    if output == "detached":
        return _detach(asked, directory)
    session = open_session(config, directory, resume, has_dashboard=output == "dashboard")
    if output == "background":
        return _train_in_background(session)
    if output == "dashboard":
        from tui.cli_dashboard import show_run

        return show_run(session)
    return _follow(session, output)


def prepare(asked: Asked) -> tuple[RunConfig, RunDirectory]:
    """Read the settings and check all that is cheap to check; creates nothing.

    Raises:
        InputError: with everything that was found wrong.
    """
    config = load_config(asked.source, overrides(asked))
    if asked.is_fitted:
        config = _fitted(config)
    path = asked.run_dir or new_run_path(_run_name(config, asked.source))
    directory = RunDirectory(path.expanduser().absolute())
    checks: tuple[Callable[[], None], ...] = (
        lambda: check_model(config),
        lambda: _check_data(config),
        lambda: check_writable(directory.path),
    )
    problems: list[InputError] = []
    for check in checks:
        try:
            check()
        except InputError as error:
            problems.append(error)
    if len(problems) > 1:
        raise InputError("\n".join(str(problem) for problem in problems))
    if problems:
        raise problems[0]
    return config, directory


def open_session(
    config: RunConfig,
    directory: RunDirectory,
    resume: Resume | None = None,
    *,
    has_dashboard: bool = True,
) -> Session:
    """Return a run that is ready to start.

    Args:
        config: the settings.
        directory: its folder.
        resume: the checkpoint that it goes on from, if it does.
        has_dashboard: whether it is shown by one: then it also tells what its journal has already,
            and does not ring the terminal, which the dashboard does.
    """
    from engine.session import Session
    from tui.call_settings import callers_for

    has_past = has_dashboard and resume is not None and not resume.parent
    past = read_history(directory.journal_file, TRACE_SAMPLES) if has_past else ()
    callers = callers_for(directory, home(), has_dashboard=has_dashboard)
    return Session(config, directory, resume, past, callers)


def quieten_libraries() -> None:
    """Keep libraries from drawing bars and giving advice; read when they are imported."""
    for name, value in (
        ("TOKENIZERS_PARALLELISM", "true"),
        ("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
    ):
        os.environ.setdefault(name, value)


def overrides(asked: Asked) -> dict[str, Any]:
    """What the command line sets; the options with a name of their own win.

    Raises:
        ConfigError: with every setting that cannot be read.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for text in asked.settings:
        try:
            key, value = parse_override(text)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            values[key] = value
    if problems:
        raise ConfigError(problems)
    # Another model or data has commits of its own.
    for name, revision in ((asked.model, "revision"), (asked.data, "data_revision")):
        if name is not None:
            values.setdefault(revision, None)
    named = {"model": asked.model, "data": asked.data}
    return values | {key: value for key, value in named.items() if value is not None}


def _fitted(config: RunConfig) -> RunConfig:
    """Change settings until the run fits this machine, and say what and at what cost.

    Raises:
        InputError: when nothing makes it fit.
    """
    from engine.fit import fit
    from tui.cli_plan import described, machine_to_plan_for

    fitted = fit(config, machine_to_plan_for())
    for line in described(fitted):
        say(line, sys.stderr)
    if not fitted.plan.fits:
        raise ConfigError([f"model: {config.model} is too large for this machine, whatever else"])
    return fitted.config


def _run_name(config: RunConfig, source: str) -> str:
    if config.name:
        return config.name
    if source in preset_names():
        return source
    return f"{Path(config.model).name}-{Path(config.data).name}"


def _check_data(config: RunConfig) -> None:
    """Check that local data is there; whether its rows are good is seen when they are read.

    Raises:
        DataError: when it is not.
    """
    if is_local(config.data) and not config.hf_dataset:
        find_files(Path(config.data).expanduser())


def _may_download(config: RunConfig, *, is_sure: bool) -> bool:
    """See to what comes from the hub: that it can be reached, and that gigabytes are welcome."""
    if is_local(config.model) and is_local(config.data) and not config.hf_dataset:
        return True
    has_network = is_reachable()
    is_here = is_local(config.model) or is_cached(config.model)
    if is_sure or is_here or not has_network or not has_person():
        return True
    return click.confirm(
        f"The model {config.model} is not on this machine.\n"
        f"Download it from the Hugging Face hub to {cache_folder()}?",
        default=True,
        err=True,
    )


def _may_begin_short_of_memory(folder: Path, *, is_sure: bool) -> bool:
    """Say when the machine is short of memory before anything is loaded, and ask who sits there."""
    from engine.guard import already_short
    from engine.host import open_host

    with open_host(folder) as host:
        text = already_short(host.sample())
    if not text:
        return True
    if is_sure or not has_person():
        say(text, sys.stderr)
        return True
    return click.confirm(f"{text}\nTrain all the same?", default=False, err=True)


def _detach(asked: Asked, directory: RunDirectory) -> int:
    """Start what was asked for in the background, and leave once it trains."""
    from tui.background import start_in_background, watching_words
    from tui.farewell import name_of

    words = ["--resume", asked.source] if asked.is_resume else [asked.source]
    for option, value in (("--model", asked.model), ("--data", asked.data)):
        words += [option, value] if value is not None else []
    for setting in asked.settings:
        words += ["--set", setting]
    words += ["--fit"] if asked.is_fitted else []
    if not asked.is_resume or "@" in asked.source:
        words += ["--run-dir", str(directory.path)]
    elif not asked.source:
        words[1] = str(directory.path)
    process = start_in_background([*words, "--yes"], directory, sys.stderr)
    say(watching_words(directory, name_of(directory), process), sys.stderr)
    return 0


def _train_in_background(session: Session) -> int:
    from tui.farewell import last_words
    from tui.headless import train_on
    from tui.terminal import StrayOutput

    with StrayOutput() as stray:
        session.start()
        exit_code = train_on(session, stray, stray.screen)
        # Whoever started it reads its screen until it trains, its log has the rest.
        say(last_words(session), sys.stderr if session.has_begun else stray.screen)
    return exit_code


def _follow(session: Session, output: Literal["plain", "json"]) -> int:
    from tui.farewell import last_words
    from tui.plain import JsonLines, PlainLines, follow

    with data_stream() as out:
        if output == "json":
            lines = JsonLines(out)
        else:
            lines = PlainLines(out, sys.stderr, session.config.steps_per_report)
        exit_code = follow(session, lines)
    say(last_words(session), sys.stderr)
    return exit_code
