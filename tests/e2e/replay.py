"""Trains undisturbed what another run trained under pressure, with the same rows at once.

``python -m tests.e2e.replay CONFIG RUN_DIR ROWS``: ROWS are the micro-batches of the iterations, in
order, with commas between them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from engine.blas import preload_openblas

preload_openblas()

from engine import events as ev  # noqa: E402 - the fast BLAS has to be there first
from engine.config import load_config  # noqa: E402
from engine.mailbox import Mailbox, Stop  # noqa: E402
from engine.runs import RunDirectory  # noqa: E402
from engine.train import train  # noqa: E402


def replay(config: str, folder: str, rows: list[int]) -> None:
    """Train as many iterations as there are rows."""
    mailbox = Mailbox()
    for event in train(load_config(config), RunDirectory(Path(folder)), mailbox):
        if isinstance(event, ev.Step) and event.iteration < len(rows):
            # The next step has not begun.
            mailbox.set_micro_batch(rows[event.iteration])
        elif isinstance(event, ev.Step):
            mailbox.stop(Stop("as far as the other"))


if __name__ == "__main__":
    replay(sys.argv[1], sys.argv[2], [int(count) for count in sys.argv[3].split(",")])
