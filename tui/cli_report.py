"""``lora-tui report``: what a run did, in words or as a page."""

from __future__ import annotations

import shutil

import click


@click.command()
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--html", "is_page", is_flag=True, help="Write report.html, and print its path.")
def report(run: str | None, is_page: bool) -> None:
    """Tell what a run did: result, timeline, plan and reality, what to try next.

    Of the newest run if none is named; it may go on still, be over, or have been interrupted.
    """
    from engine.report.keep import read_report, write_page
    from engine.report.words import WIDTH, as_text
    from engine.runs import find_run

    directory = find_run(run)
    found = read_report(directory)
    if is_page:
        click.echo(write_page(directory, found))
        return
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    click.echo("\n".join(as_text(found, width)))


COMMANDS = (report,)
