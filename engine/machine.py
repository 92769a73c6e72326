"""What this machine can do: measured once in a process of its own, and kept.

A plan has to be there at once and without MLX, so what MLX says of its device is written down.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import psutil

from engine.files import write_text
from engine.runs import home

if TYPE_CHECKING:
    from pathlib import Path

MEASURING_SECONDS = 60
"""What measuring may take; it is done in about three."""
KEPT_DAYS = 90


@dataclass(frozen=True, slots=True)
class Machine:
    """The device that would train, as far as a plan needs to know it."""

    device: str
    is_cpu: bool
    has_fused_attention: bool
    """Whether attention's backward pass makes no scores."""
    budget_bytes: int
    """What a run may use unless it is told otherwise."""
    flops_per_second: float | None
    """What a training step reaches; None when it could not be measured."""
    layer_seconds: float = 0.0
    """What a layer costs in a step however little it works on."""
    measured: float = 0.0
    """When, in seconds since the epoch."""
    host: str = ""
    """What the machine was, to notice when it is another."""


def known_machine(now: float | None = None) -> Machine | None:
    """Return what was measured before, unless it is old or of another machine."""
    try:
        values = json.loads(machine_file().read_text(encoding="utf-8"))
        machine = Machine(**values)
    except (OSError, ValueError, TypeError):
        return None
    age = (time.time() if now is None else now) - machine.measured
    is_fresh = 0 <= age < KEPT_DAYS * 86_400
    return machine if is_fresh and machine.host == host_name() else None


def this_machine() -> Machine:
    """Return what is known of this machine; the first time it is measured, for some seconds."""
    return known_machine() or _measured() or guessed_machine()


def remember(machine: Machine) -> None:
    """Keep what was measured.

    Raises:
        OSError: when it cannot be written.
    """
    machine_file().parent.mkdir(parents=True, exist_ok=True)
    write_text(machine_file(), json.dumps(asdict(machine), indent=2))


def machine_file() -> Path:
    """Return where it is kept."""
    return home() / "machine.json"


def host_name() -> str:
    """Return what tells this machine from another that shares its files."""
    memory = psutil.virtual_memory().total // 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory} GiB"


def guessed_machine() -> Machine:
    """Return what can be said without MLX: its memory, and nothing of its speed.

    A run may use six tenths of an Apple machine's memory, which is nine tenths of what its GPU is
    recommended to use, and seven tenths of another's.
    """
    is_mac = sys.platform == "darwin"
    total = psutil.virtual_memory().total
    return Machine(
        device=platform.processor() or platform.machine(),
        is_cpu=not is_mac,
        has_fused_attention=False,
        budget_bytes=total * (6 if is_mac else 7) // 10,
        flops_per_second=None,
        host=host_name(),
    )


def _measured() -> Machine | None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "engine.speed"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MEASURING_SECONDS,
            check=True,
        )
        machine = Machine(**json.loads(done.stdout.splitlines()[-1]))
        remember(machine)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, IndexError):
        return None
    return machine
