"""``lora-tui calls``: who is called when a run needs a person, and whether that works."""

from __future__ import annotations

import click

from tui.cli_use import say

TEST_TITLE, TEST_TEXT = "lora-tui: a test", "This is how lora-tui calls. Nothing has to be done."


@click.command()
@click.option("--test", "is_test", is_flag=True, help="Send each of them a message.")
def calls(is_test: bool) -> int:
    """Say who is called when a run ends or needs somebody; --test calls them."""
    from engine.channels import CannotCallError
    from engine.runs import home
    from tui.call_settings import FILE_NAME, channels_of, kinds_in_words, load_call_settings

    settings = load_call_settings(home())
    channels, problems = channels_of(settings, has_dashboard=False)
    for problem in problems:
        say(problem)
    if not settings.addresses:
        say(f"No address is set: put calls: [ntfy://…] into {home() / FILE_NAME}")
    is_well = not problems
    for channel in channels:
        outcome = "is set"
        if is_test:
            try:
                channel.open()
                channel.send(TEST_TITLE, TEST_TEXT)
                outcome = "was told"
            except CannotCallError as error:
                outcome, is_well = f"could not be reached: {error}", False
        click.echo(f"{channel.name}  {outcome}")
    if not is_test:
        say(f"They are called about: {kinds_in_words(settings.kinds)}. Try: lora-tui calls --test")
    return 0 if is_well else 1


COMMANDS = (calls,)
