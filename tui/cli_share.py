"""``lora-tui upload``: carries an adapter to the hub, only when told to."""

from __future__ import annotations

import click

from tui.cli_use import model_option, run_argument, say


@click.command()
@run_argument
@click.argument("repository", metavar="OWNER/NAME")
@model_option
@click.option("--private", "is_private", is_flag=True, help="Make a new repository private.")
@click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
def upload(run: str, repository: str, model: str | None, is_private: bool, is_sure: bool) -> int:
    """Send adapters and model card to the Hugging Face hub."""
    from engine.use.chosen import choose
    from engine.use.upload import package
    from engine.use.upload import upload as send
    from tui.cli_run import quieten_libraries
    from tui.terminal import has_person
    from tui.words import size

    quieten_libraries()
    chosen = choose(run, model)
    with package(chosen) as folder:
        files = [(path.name, path.stat().st_size) for path in sorted(folder.iterdir())]
    say(f"{chosen.label} → {repository}{' (private)' if is_private else ''}:")
    for name, count in files:
        say(f"  {name}  {size(count)}")
    if not is_sure:
        if not has_person():
            raise click.UsageError("Nothing is sent without a person's word: add --yes.")
        if not click.confirm("Send these files to the Hugging Face hub?", err=True):
            say("Nothing was sent.")
            return 0
    click.echo(send(chosen, repository, is_private=is_private))
    return 0


COMMANDS = (upload,)
