"""The command line. Light: what a command needs is imported when it runs."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from engine.errors import InputError, LoraTuiError
from engine.preset_files import preset_names, preset_path, preset_summary, presets_folder
from tui import (
    cli_calls,
    cli_chat,
    cli_commands,
    cli_compare,
    cli_report,
    cli_runs,
    cli_serve,
    cli_share,
    cli_use,
)  # fmt: skip
from tui.cli_runs import print_columns, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem


PROGRAM = "lora-tui"
FAILED, BAD_USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: what follows the program's name; None takes the process's own.
    """
    try:
        result = cli.main(arguments, prog_name=PROGRAM, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except LoraTuiError as error:
        click.echo(f"Error: {error}", err=True)
        return BAD_USAGE if isinstance(error, InputError) else FAILED
    except OSError as error:
        click.echo(f"Error: {error}", err=True)
        return FAILED
    finally:
        # Not every screen that loads without it gets as far as its first picture.
        gc.enable()
    return result or 0


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 completed or stopped as asked, 1 failed, 2 bad usage or configuration, "
    "3 stopped by the guard, 128+n ended by signal n.",
)
@click.version_option(package_name=PROGRAM, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> int:
    """Fine-tune a language model with LoRA, and watch it from the terminal.

    Without a command it opens home: runs, presets, this machine.
    """
    if context.invoked_subcommand:
        return 0
    from tui.terminal import has_person

    if not has_person():
        raise click.UsageError("Home needs a terminal. Without one: lora-tui demo --plain", context)
    _hurry()
    from tui.cli_home import show_home

    return show_home()


def _hurry() -> None:
    """Search for no garbage until a screen is painted: what loads for it stays to the end."""
    gc.disable()


def _complete_source(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    presets = [
        CompletionItem(name, help=preset_summary(name))
        for name in preset_names()
        if name.startswith(incomplete)
    ]
    return [*presets, CompletionItem(incomplete, type="file")]


_settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. --set iters=500 --set lora_parameters.rank=16.",
)


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every command that trains takes."""
    for option in (
        click.option(
            "--json", "is_json", is_flag=True, help="No dashboard: the events, one JSON a line."
        ),
        click.option("--plain", "is_plain", is_flag=True, help="No dashboard: a line a report."),
        click.option(
            "--run-dir",
            type=click.Path(path_type=Path),
            help="The run's folder; by default a new one among the runs.",
        ),
        _settings_option,
    ):
        command = option(command)
    return command


@cli.command()
@_run_options
def demo(settings: tuple[str, ...], run_dir: Path | None, is_plain: bool, is_json: bool) -> int:
    """Train the bundled tiny model on bundled data; needs no network."""
    _hurry()
    from tui.cli_run import Asked, run

    # It is too small to ask anything about.
    asked = Asked("demo", settings=settings, run_dir=run_dir, is_sure=True)
    return run(asked, _output(is_plain=is_plain, is_json=is_json))


@cli.command()
@click.argument(
    "source", metavar="PRESET|CONFIG.yaml", required=False, shell_complete=_complete_source
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with a stopped or interrupted run, the newest if none is named; "
    "RUN@4500 begins a new run from that checkpoint.",
)
@click.option("--model", metavar="MODEL", help="A folder, or a name on the Hugging Face hub.")
@click.option("--data", metavar="DATA", help="A folder with train.jsonl, or a hub data set.")
@_run_options
@click.option("--fit", "is_fitted", is_flag=True, help="Change settings until it fits, and say so.")
@click.option("--yes", "is_sure", is_flag=True, help="Ask nothing: no download, no lack of memory.")
@click.option("--detach", "is_detached", is_flag=True, help="Train on in the background.")
@click.option("--background", "is_background", is_flag=True, hidden=True)
def run(
    source: str | None,
    resume: str | None,
    model: str | None,
    data: str | None,
    settings: tuple[str, ...],
    run_dir: Path | None,
    is_plain: bool,
    is_json: bool,
    is_fitted: bool,
    is_sure: bool,
    is_detached: bool,
    is_background: bool,
) -> int:
    """Train a preset, or a YAML file as mlx_lm.lora takes it."""
    _hurry()
    from tui.cli_run import Asked
    from tui.cli_run import run as train

    if (source is None) == (resume is None):
        raise click.UsageError("Give either a preset or YAML file, or --resume.")
    is_resume = resume is not None
    if is_resume and is_fitted:
        raise click.UsageError("--fit is for a new run; a run goes on with its own settings.")
    asked = Asked(
        source or resume or "", model, data, settings, run_dir, is_sure, is_resume, is_fitted
    )
    output = _output(is_plain=is_plain, is_json=is_json)
    if is_detached:
        if output:
            raise click.UsageError("--detach leaves the terminal: it takes no --plain or --json.")
        return train(asked, "detached")
    return train(asked, "background" if is_background else output)


@cli.command()
@click.argument("source", metavar="PRESET|CONFIG.yaml", shell_complete=_complete_source)
@click.option("--model", metavar="MODEL", help="A folder, or a name on the Hugging Face hub.")
@click.option("--data", metavar="DATA", help="A folder with train.jsonl, or a hub data set.")
@_settings_option
@click.option("--fit", "is_fitted", is_flag=True, help="Change settings until it fits.")
@click.option(
    "--preflight",
    "with_tokens",
    is_flag=True,
    help="Read and tokenise the data too: lengths, padding, what is left out, an example.",
)
@click.option(
    "--probe",
    "with_probe",
    is_flag=True,
    help="Load the model and try the widest step: planned beside measured memory, and time.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    metavar="TFLOPS",
    help="What training reaches here; measured once if not given.",
)
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def plan(
    source: str,
    model: str | None,
    data: str | None,
    settings: tuple[str, ...],
    is_fitted: bool,
    with_tokens: bool,
    with_probe: bool,
    speed: float | None,
    is_json: bool,
) -> None:
    """Say what memory and time a run will take, before anything is downloaded.

    Nothing is loaded either, unless --probe is given; and nothing is trained.
    """
    from tui.cli_plan import Wanted, show_plan
    from tui.cli_run import Asked

    operations = None if speed is None else speed * 1e12
    wanted = Wanted(is_fitted, is_json, operations, with_tokens, with_probe)
    show_plan(Asked(source, model, data, settings), wanted)


@cli.command()
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def presets(is_json: bool) -> None:
    """List the ready configurations, and whether each fits this machine."""
    from engine.machine import guessed_machine, known_machine
    from tui.cli_plan import preset_verdicts

    verdicts = preset_verdicts(known_machine() or guessed_machine())
    found = [(name, preset_summary(name), verdicts[name]) for name in preset_names()]
    if is_json:
        print_json(
            [
                {"name": name, "summary": summary, "path": str(preset_path(name)), "verdict": fits}
                for name, summary, fits in found
            ]
        )
        return
    print_columns([(name, fits, summary) for name, summary, fits in found])


@cli.command()
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
def doctor(is_json: bool) -> None:
    """Look at this machine: what is well for training, and what to do about the rest."""
    from tui.cli_doctor import as_json, as_lines, look_around

    found = look_around()
    if is_json:
        print_json(as_json(found))
        return
    for line in as_lines(found):
        click.echo(line)


@cli.command()
@click.argument("name", metavar="[RUN]", required=False)
def where(name: str | None) -> None:
    """Say where things are: all that the program writes, or one run's files."""
    from engine.hub import cache_folder
    from engine.runs import RunDirectory, find_run, home, runs_folder, token_cache

    run = find_run(name) if name else RunDirectory(runs_folder() / "RUN")
    own = [
        ("run", str(run.path)),
        ("settings", str(run.config_file)),
        ("journal", str(run.journal_file)),
        ("log", str(run.log_file)),
        ("adapters", str(run.adapters)),
    ]
    if name:
        from engine.use.chosen import known_iterations

        names = [f"{i:07d}_adapters.safetensors" for i in known_iterations(run.adapters)]
        own += [("checkpoint", str(run.adapters / file)) for file in names]
        print_columns([*own, ("card", str(run.adapters / "README.md"))])
        return
    print_columns(
        [
            ("home", str(home())),
            ("runs", str(runs_folder())),
            *own[1:],
            ("presets", str(presets_folder())),
            ("tokens", str(token_cache())),
            ("hub cache", str(cache_folder())),
        ]
    )


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    r"""Print a script that completes commands and presets.

    \b
    bash: eval "$(lora-tui completion bash)"   in ~/.bashrc
    zsh:  eval "$(lora-tui completion zsh)"    in ~/.zshrc
    fish: lora-tui completion fish > ~/.config/fish/completions/lora-tui.fish
    """
    from click.shell_completion import get_completion_class

    completer = get_completion_class(shell)
    if completer is None:
        raise click.UsageError(f"There is no completion for {shell}.")
    click.echo(completer(cli, {}, PROGRAM, "_LORA_TUI_COMPLETE").source())


def _output(*, is_plain: bool, is_json: bool) -> Literal["plain", "json"] | None:
    if is_plain and is_json:
        raise click.UsageError("--plain and --json exclude each other.")
    if is_json:
        return "json"
    return "plain" if is_plain else None


for _commands in (
    cli_runs, cli_use, cli_chat, cli_compare, cli_share, cli_report, cli_commands, cli_calls,
    cli_serve,
):  # fmt: skip
    for _command in _commands.COMMANDS:
        cli.add_command(_command)
