"""``lora-tui`` on a machine to which happens what a file says: ``python -m tests.e2e.odd FILE …``.

Only what cannot be caused for real on any machine is played here: the system's grade of memory
pressure, an hour of sleep, a batch without finite numbers, a device that hangs, a full disk.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import session
from engine.guard import Guard, GuardSettings
from engine.host import Clocks, sampler
from tui.cli import main

if TYPE_CHECKING:
    from engine.config import RunConfig
    from engine.events import Pressure
    from engine.host import HostSample, HostSampler

LOOK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Happening:
    """What happens to the machine now."""

    pressure: Pressure | None = "green"
    """None for this machine's own."""
    available_bytes: int = 3_000_000_000
    wall_seconds: float = 0.0
    """What the wall clock is ahead of this machine's."""
    slept_seconds: float = 0.0
    """What the machine has slept since its start, on top of what it really did."""
    bad_iterations: tuple[int, ...] = ()
    """Iterations whose loss is not a number."""
    hangs_at: int = 0
    """The iteration at which the device hangs; 0 for none."""
    is_disk_full: bool = False
    sample_seconds: float = 1.0
    stall_seconds: float = 60.0

    def write(self, path: Path) -> None:
        """Let it happen; the file is there whole or not at all."""
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)), encoding="utf-8")
        new.replace(path)


def read(path: Path) -> Happening:
    """Return what happens now."""
    return Happening(**json.loads(path.read_text(encoding="utf-8")))


class Machine:
    """This machine, but for its memory."""

    def __init__(self, path: Path, real: HostSampler) -> None:
        self._path = path
        self._real = real

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()

    def sample(self) -> HostSample:
        """Look at both."""
        now, real = read(self._path), self._real.sample()
        if now.pressure is None:
            return real
        return replace(
            real,
            pressure=now.pressure,
            available_bytes=now.available_bytes,
            swap_out_bytes_per_second=0.0,
        )


def play(path: Path) -> None:
    """Put what happens between the program and its machine."""
    first, clocks, wall = read(path), sampler.system_clocks(), time.time
    real_host, begin, disk = session.open_host, session.begin_thread, shutil.disk_usage
    there: Any = session
    there.HOST_SECONDS = first.sample_seconds

    def now() -> float:
        happening = read(path)
        return wall() + happening.wall_seconds + happening.slept_seconds

    def disk_usage(folder: Any) -> Any:
        found = disk(folder)
        return found._replace(free=0) if read(path).is_disk_full else found

    def guard(config: RunConfig) -> Guard:
        settings = GuardSettings.of(config)
        return Guard(config, replace(settings, stall_seconds=first.stall_seconds))

    def begin_thread() -> None:
        begin()
        # MLX comes into the process here, after the fast BLAS.
        from engine import train

        train.run_step = partial(_step, path, train.run_step)  # pyright: ignore[reportPrivateImportUsage]

    time.time = now
    shutil.disk_usage = disk_usage
    sampler.system_clocks = lambda: Clocks(
        now, lambda: clocks.elapsed() + read(path).slept_seconds, clocks.awake
    )
    there.open_host = lambda folder: Machine(path, real_host(folder))
    there.Guard = guard
    there.begin_thread = begin_thread


def _step(path: Path, real: Any, *given: Any) -> float:
    iteration = given[-1]
    while read(path).hangs_at == iteration:
        time.sleep(LOOK_SECONDS)
    loss_sum = real(*given)
    return math.nan if iteration in read(path).bad_iterations else loss_sum


if __name__ == "__main__":
    play(Path(sys.argv[1]))
    # A night has one time zone, wherever it is played.
    os.environ["TZ"] = "UTC"
    time.tzset()
    sys.exit(main(sys.argv[2:]))
