"""``lora-tui serve``: the dashboard of a run in a browser."""

from __future__ import annotations

import errno
import secrets
import socket

import click

from engine.errors import InputError, RunError
from tui.cli_use import say

LOOPBACK = "127.0.0.1"
PORT = 8000
TOKEN_BYTES = 24
_EVERYWHERE = frozenset({"0.0.0.0", "::"})


@click.command()
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--port", default=PORT, type=click.IntRange(0, 65535), show_default=True,
              help="Where; 0 takes one that is free.")  # fmt: skip
@click.option("--host", metavar="ADDRESS",
              help="Open it to other machines, for whoever has the token it prints.")  # fmt: skip
@click.option("--steer", "is_steerable", is_flag=True,
              help="Let keys in the browser steer the run, too.")  # fmt: skip
def serve(name: str | None, port: int, host: str | None, *, is_steerable: bool) -> None:
    """Show the dashboard of a run in a browser, to look at; ctrl+c ends that, not the run."""
    from engine.runs import find_run

    run = find_run(name)
    try:
        from tui.server import Door, RunServer
    except ModuleNotFoundError as error:
        raise RunError(
            f"textual-serve is not installed here ({error}).",
            "Get it with: uv pip install textual-serve",
        ) from error
    token = "" if host is None else secrets.token_urlsafe(TOKEN_BYTES)
    listening = bound(host or LOOPBACK, port)
    with listening:
        click.echo(address(host or LOOPBACK, listening.getsockname()[1], token))
        say(_who_may(is_open=host is not None, is_steerable=is_steerable))
        say("ctrl+c ends the page; the run is not touched by that.")
        RunServer(run, Door(token), is_steerable=is_steerable).serve_on(listening)
    say(f"No longer served: {run.name}.")


def bound(host: str, port: int) -> socket.socket:
    """Listen at an address of this machine.

    Raises:
        InputError: when it is none.
        RunError: when the port is taken, or not for everybody.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = f"Choose another: lora-tui serve --port {port + 1 if port < 65535 else 0}"
            raise RunError(f"Port {port} is in use by another program.", hint) from error
        if isinstance(error, PermissionError):
            hint = "Choose one from 1024: lora-tui serve --port 8000"
            raise RunError(f"Port {port} is not for everybody.", hint) from error
        hint = "Name one that it has, or 0.0.0.0 for all of them."
        message = f"{host} is not an address of this machine: {error}"
        raise InputError(message, hint) from error


def address(host: str, port: int, token: str) -> str:
    """Return what to open in a browser."""
    name = socket.gethostname() if host in _EVERYWHERE else host
    shown = f"[{name}]" if ":" in name else name
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def _who_may(*, is_open: bool, is_steerable: bool) -> str:
    who = "Whoever has this address" if is_open else "Anyone on this machine"
    return f"{who} can {'watch and steer the run' if is_steerable else 'watch the run'}."


COMMANDS: tuple[click.Command, ...] = (serve,)
