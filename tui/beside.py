"""Says what a model takes that is loaded beside a run in training, and asks who can answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.use.chosen import Chosen

sure_option = click.option(
    "--yes", "is_sure", is_flag=True, help="Do not ask, also while a run is training."
)


def may_load(several: Iterable[Chosen], *, is_sure: bool) -> bool:
    """Say when a run is training on this machine what loading takes, and ask who sits there.

    Args:
        several: what is to be loaded, one base at a time.
        is_sure: whether the answer is known. Scripts are never asked.

    Raises:
        ModelError: when a base is gone.
    """
    from engine.runs import training_runs
    from engine.use.needed import loaded_bytes
    from tui.terminal import has_person
    from tui.words import size

    several = list(several)
    training = training_runs(*(c.directory for c in several if c.directory))
    if not training:
        return True
    needed = max(loaded_bytes(chosen) for chosen in several)
    name = training[0].name
    text = (
        f"{name} is training on this machine. This loads a model beside it, about {size(needed)}.\n"
        f"Pause it first (space in its dashboard, or lora-tui pause {name})"
    )
    if is_sure or not has_person():
        click.echo(f"Warning: {text}.", err=True)
        return True
    if click.confirm(f"{text}, or go on with --yes.\nLoad it all the same?", err=True):
        return True
    click.echo("Nothing was loaded.", err=True)
    return False
