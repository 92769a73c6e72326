"""``lora-tui`` with libraries that talk into every stream, before and after there is a folder."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from engine.data import rows
from engine.eta import EtaEstimator
from tui.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable


def talk(when: str) -> None:
    """Say something in all the ways there are."""
    os.write(1, f"NOISE {when} out\n".encode())
    os.write(2, f"NOISE {when} err\n".encode())
    sys.stdout.write(f"NOISE {when} printed\n")
    sys.stderr.write(f"NOISE {when} complained\n")
    warnings.warn(f"NOISE {when} warned", stacklevel=1)
    logging.getLogger("library").warning("NOISE %s logged", when)


def talking(when: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, talking whenever it is called."""

    def call(*arguments: Any) -> Any:
        talk(when)
        return function(*arguments)

    return call


if __name__ == "__main__":
    rows.read_data = talking("early", rows.read_data)
    EtaEstimator.add_step = talking("late", EtaEstimator.add_step)
    sys.exit(main())
