"""The commands for runs in other processes, as the command line reads them."""

from __future__ import annotations

import click

_run_argument = click.argument("name", metavar="[RUN]", required=False)


@click.command()
@_run_argument
@click.option("--read-only", "is_read_only", is_flag=True, help="Watch it, and change nothing.")
def attach(name: str | None, *, is_read_only: bool) -> int:
    """Watch and steer a run in another process; leaving it leaves it running."""
    from tui.cli_remote import attach as show
    from tui.terminal import has_person, is_served

    if not has_person() and not is_served():
        raise click.UsageError("This needs a terminal. Without one: lora-tui status")
    return show(name, is_read_only=is_read_only)


@click.command()
@_run_argument
@click.option("--json", "is_json", is_flag=True, help="As JSON.")
@click.option("--watch", "is_watching", is_flag=True, help="Every second, while it trains.")
@click.option("--format", "form", metavar="TEXT", help="Such as '{percent} % {pressure}'.")
def status(name: str | None, form: str | None, *, is_json: bool, is_watching: bool) -> None:
    """Say in one line how a run stands: training, interrupted, or done."""
    from tui.cli_remote import show_status

    show_status(name, is_json=is_json, form=form, is_watching=is_watching)


@click.command()
@_run_argument
def pause(name: str | None) -> int:
    """Let a run stand still, saved."""
    from tui.cli_remote import steer

    return steer(name, "pause")


@click.command()
@_run_argument
def resume(name: str | None) -> int:
    """Let a paused run go on."""
    from tui.cli_remote import steer

    return steer(name, "resume")


@click.command()
@_run_argument
def checkpoint(name: str | None) -> int:
    """Let a run save now."""
    from tui.cli_remote import steer

    return steer(name, "checkpoint")


@click.command()
@_run_argument
def stop(name: str | None) -> int:
    """Let a run save and end."""
    from tui.cli_remote import steer

    return steer(name, "stop")


COMMANDS: tuple[click.Command, ...] = (attach, status, pause, resume, checkpoint, stop)
