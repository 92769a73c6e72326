"""``lora-tui chat``: opens the chat screen on any checkpoint."""

from __future__ import annotations

import os

import click

from tui.beside import may_load, sure_option
from tui.cli_use import model_option, run_argument


@click.command()
@run_argument
@model_option
@sure_option
def chat(run: str, model: str | None, is_sure: bool) -> int:
    """Talk to what a run trained, with its base beside it."""
    from engine.use.talk import END_SECONDS, open_talk
    from tui.chat_app import ChatApp
    from tui.cli_run import quieten_libraries
    from tui.terminal import StrayOutput, has_person

    if not has_person():
        raise click.UsageError("A chat needs a terminal. Without one: lora-tui generate RUN PROMPT")
    quieten_libraries()
    talk = open_talk(run, model)
    # It says itself what it takes; who trains meanwhile it does not know.
    if not may_load([talk.chosen], is_sure=is_sure):
        return 0
    with StrayOutput() as stray:
        stray.take_prints()
        app = ChatApp(talk)
        app.run()
    talk.close(END_SECONDS)
    if talk.is_alive():
        # It still loads a large model: it may not hold the shell.
        os._exit(app.return_code or 0)
    return app.return_code or 0


COMMANDS = (chat,)
