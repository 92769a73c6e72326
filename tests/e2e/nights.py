"""Ten scripted nights: real processes, and in the morning a report that tells what happened.

    uv run python -m tests.e2e.nights [--short] [--smollm2] [NAME…]

In each, something happens to a run that somebody left alone. It ends with a good adapter, byte for
byte that of an undisturbed run wherever training went on exactly, and its report's timeline says
what was done to it and nothing else. Nights play on the demo's model for minutes, or seconds with
``--short``; what cannot be caused for real comes from ``tests.e2e.odd``, the rest is the program.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from engine import events as ev
from engine.control import ControlClient
from engine.report.keep import read_report
from tests.cli.program import run
from tests.e2e.ground import (
    CAUSED,
    LONG,
    LOOK_SECONDS,
    PATIENCE,
    SETTINGS,
    SHORT,
    Ground,
    Night,
    with_smollm2,
)
from tests.e2e.pressure import MemoryGroup, NoGroupError, hog, memory_group

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

HOGGED_BYTES = 2_000_000_000
"""What run and hog have together; a hundredth of it is enough to save."""
HOG_LEAVES = (0.4, 0.13, 0.02)
"""Shares: enough to begin with, nearly yellow, red."""
BEGAN, COMPLETED = "Began to train$", "Completed at [0-9,]+: all"


def yellow(ground: Ground) -> None:
    """Memory gets short at one in the morning, and is there again later."""
    night = ground.night("yellow")
    now = datetime.now(UTC)
    one = (now + timedelta(days=1)).replace(hour=1, minute=0, second=0)
    process = night.start_odd(wall_seconds=(one - now).total_seconds())
    night.wait_for_iteration(ground.length.early)
    night.happen(pressure="yellow", available_bytes=1_000_000_000)
    night.wait_for(ev.Paused)
    night.hold()
    night.happen(pressure="green", available_bytes=3_000_000_000)
    night.finish(process)
    report = night.check(
        [
            BEGAN,
            *["The guard shrank the run: memory pressure yellow"]
            * sum(event.action == "shrink" for event in night.of(ev.Guard)),
            "The guard paused at [0-9]+ for .*memory pressure yellow",
            COMPLETED,
        ],
        "Memory pressure was yellow for",
        is_exact=False,
    )
    paused = next(moment for moment in report.moments if moment.kind == "pause")
    assert datetime.fromtimestamp(paused.time, UTC).hour == 1
    assert paused.seconds >= ground.length.hold_seconds
    assert report.strain.short >= ground.length.hold_seconds / 2
    assert any(event.action == "shrink" for event in night.of(ev.Guard))


def red(ground: Ground) -> None:
    """Another program takes memory until there is none; the run is saved, and goes on later."""
    night = ground.night("red")
    try:
        with memory_group() as group:
            _meet_a_hog(night, group)
    except NoGroupError:
        process = night.start_odd()
        night.wait_for_iteration(ground.length.early)
        night.happen(pressure="yellow", available_bytes=1_000_000_000)
        night.wait_for(ev.Guard)
        night.happen(pressure="red", available_bytes=100_000_000)
        night.finish(process, 3)
    reached = night.of(ev.Ended)[-1].iteration
    saved = night.of(ev.CheckpointSaved)[-1]
    assert (saved.reason, saved.iteration) == ("pressure", reached)
    before = [m.words for m in read_report(night.run).moments if m.kind in CAUSED]
    assert re.match("Aborted at .*memory pressure red", before[-1]), before
    night.resume()
    night.check(
        [*map(re.escape, before), f"Went on from {reached}$", COMPLETED],
        "Memory pressure was red for",
        "The guard stopped the run: memory pressure red",
        is_exact=False,
    )


def _meet_a_hog(night: Night, group: MemoryGroup) -> None:
    group.set_limit(HOGGED_BYTES)
    # Time to be red before the guard pauses, which would be waiting then; nothing else to save for.
    night.settings |= {"grace_seconds": 30, "save_every": 1000}
    with hog(group, night.ground.home, *HOG_LEAVES) as take_more:
        process = night.start_odd(group=group, pressure=None)
        try:
            night.wait_for(ev.Step)
            take_more()
            night.wait_for_iteration(night.ground.length.early)
            take_more()
            night.finish(process, 3)
        finally:
            # A group that holds a process cannot be removed.
            process.kill()
            process.wait()


@contextmanager
def _small_disk(folder: Path) -> Generator[Path | None]:
    """Mount a disk of 32 MB; None where that is not allowed."""
    place = folder / "disk"
    place.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def disk(ground: Ground) -> None:
    """The disk is full when the run wants to save, and freed."""
    with _small_disk(ground.folder) as place:
        night = ground.night("disk", place)
        process = night.start() if place else night.start_odd()
        night.wait_for(ev.CheckpointSaved)
        filler = (place or ground.folder) / "filler"
        if place:
            filler.write_bytes(bytes(shutil.disk_usage(place).free - 8_000_000))
        else:
            night.happen(is_disk_full=True)
        night.wait_for(ev.Paused)
        night.hold()
        if place:
            filler.unlink()
        else:
            night.happen(is_disk_full=False)
        night.finish(process)
        pause = "The guard paused at [0-9]+ for .*The disk is full: saving needs"
        report = night.check([BEGAN, pause, COMPLETED], is_exact=True)
        assert report.took.paused >= ground.length.hold_seconds / 2


def closed(ground: Ground) -> None:
    """The terminal is closed as soon as the program shows in it."""
    night = ground.night("closed")
    with night.window(*night.words) as window:
        window.wait_until(str.strip, PATIENCE, "nothing")
        program = window.program
        assert not night.events
    night.wait_for_end()
    program.wait(PATIENCE)
    night.check([BEGAN, COMPLETED], is_exact=True)
    assert "Traceback" not in night.run.log_file.read_text(encoding="utf-8")


def killed(ground: Ground) -> None:
    """The process is killed, and the run goes on by a key on the home screen."""
    night = ground.night("killed")
    process = night.start()
    night.wait_for_iteration(ground.length.early)
    process.send_signal(signal.SIGKILL)
    night.finish(process, -signal.SIGKILL)
    assert read_report(night.run).status == "interrupted"
    with night.window() as window:
        window.wait_for("✗ interrupted", PATIENCE)
        window.press("r")
        # At home other runs are completed too.
        window.wait_until(
            lambda screen: "✓ completed" in screen and "runs on this machine" not in screen,
            night.patience,
            "not completed",
        )
        window.press("Escape")
        window.wait_for("runs on this machine", PATIENCE)
        window.press("q")
        window.wait_for("exit code 0", PATIENCE)
        window.assert_clean()
    night.check([BEGAN, r"Went on from [0-9]+(; [0-9]+ iter|$)", COMPLETED], is_exact=True)


def numbers(ground: Ground) -> None:
    """A batch gives no finite numbers."""
    night = ground.night("numbers")
    bad = ground.length.early + 1
    night.finish(night.start_odd(bad_iterations=(bad,)))
    skipped = f"Skipped the batch at {bad}: its loss or gradient is not a finite number"
    report = night.check([BEGAN, skipped, COMPLETED], is_exact=False)
    assert report.skipped_batches == 1


def asleep(ground: Ground) -> None:
    """The machine sleeps for an hour."""
    night = ground.night("asleep")
    process = night.start_odd()
    night.wait_for_iteration(ground.length.early)
    night.happen(slept_seconds=3600.0)
    night.wait_for(ev.Slept)
    night.finish(process)
    report = night.check([BEGAN, "The machine slept for 1 h 00 min", COMPLETED], is_exact=True)
    assert abs(report.took.asleep - 3600) < 1
    assert report.took.training < 3600
    assert report.took.running > 3600


def attached(ground: Ground) -> None:
    """It is paused from one terminal, left, seen from two more, and resumed from one of them."""
    night = ground.night("attached")
    begun = run(*night.words, "--detach", home=ground.home)
    assert begun.code == 0, begun.err
    attach = ("attach", night.run.name)
    with night.window(*attach) as first:
        first.wait_for("● training", PATIENCE)
        first.press("Space")
        first.wait_for("‖ paused", PATIENCE)
        first.press("q")
        first.wait_for("exit code 0", PATIENCE)
    night.hold()
    with night.window(*attach) as second, night.window(*attach) as third:
        for window in (second, third):
            window.wait_for("‖ paused", PATIENCE)
        third.press("Space")
        second.wait_until(lambda screen: "‖ paused" not in screen, PATIENCE, "still paused")
        for window in (second, third):
            window.press("q")
            window.wait_for("exit code 0", PATIENCE)
    night.wait_for_end()
    report = night.check([BEGAN, "Paused at [0-9]+ for", COMPLETED], is_exact=True)
    assert report.took.paused >= ground.length.hold_seconds


def detached(ground: Ground) -> None:
    """It is handed over to the background between two updates."""
    night = ground.night("detached")
    with night.window(*night.words) as window:
        window.wait_for("tok/s", PATIENCE)
        pauses = _pause_between_updates(night)
        window.wait_for("‖ paused", PATIENCE)
        window.press("d")
        window.wait_for("It costs the step in", PATIENCE)
        window.press("d")
        window.wait_for("exit code 0", PATIENCE)
        window.assert_clean()
    left_at = night.of(ev.Ended)[0].iteration
    assert left_at % SETTINGS["grad_accumulation_steps"]
    night.wait_until(lambda: len(night.of(ev.Ended)) > 1, "end")
    night.wait_for_end()
    paused = ["Paused at [0-9]+ for"] * pauses
    handed_over = f"Stopped at {left_at}: handed over to the background"
    went_on = f"Went on from {left_at}$"
    night.check([BEGAN, *paused, handed_over, went_on, COMPLETED], is_exact=True)


def _pause_between_updates(night: Night) -> int:
    """Pause where gradients are added up that no update has used; return how often it took."""
    with ControlClient(night.run.control_socket) as client:
        for count in range(1, 10):
            client.ask("pause")
            night.wait_for(ev.Paused, count - 1)
            if night.of(ev.Paused)[-1].iteration % SETTINGS["grad_accumulation_steps"]:
                return count
            client.ask("resume")
            night.wait_for(ev.Resumed, count - 1)
    raise AssertionError("it only ever pauses at an update")


def stalled(ground: Ground) -> None:
    """The device hangs; the run is ended by its process, and goes on from what was saved."""
    night = ground.night("stalled")
    hangs_at = ground.length.early + 5
    process = night.start_odd(hangs_at=hangs_at)
    night.wait_until(
        lambda: any(warned.about == "stall" for warned in night.of(ev.Warned)), "warning"
    )
    # Once to save and stop, which it cannot; again to leave at once.
    process.send_signal(signal.SIGTERM)
    time.sleep(LOOK_SECONDS)
    process.send_signal(signal.SIGTERM)
    night.finish(process, 128 + signal.SIGTERM)
    saved = night.of(ev.CheckpointSaved)[-1].iteration
    night.resume()
    again = hangs_at - 1 - saved
    went_on = f"Went on from {saved}" + (f"; {again} iterations were done again" if again else "$")
    night.check(
        [BEGAN, went_on, COMPLETED],
        f"Step {hangs_at} has not ended for .*What was saved is safe",
        is_exact=True,
    )


NIGHTS: dict[str, Callable[[Ground], None]] = {
    night.__name__: night
    for night in (
        yellow, red, disk, closed, killed, numbers, asleep, attached, detached, stalled
    )
}  # fmt: skip


def main() -> None:
    """Play the nights that were asked for, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NIGHTS))
    parser.add_argument("--short", action="store_true", help="seconds each")
    parser.add_argument("--smollm2", action="store_true", help="on a real model")
    options = parser.parse_args()
    if unknown := set(options.names) - NIGHTS.keys():
        parser.error(f"no such night: {', '.join(sorted(unknown))}")
    length = SHORT if options.short else LONG
    length = with_smollm2(length) if options.smollm2 else length
    with tempfile.TemporaryDirectory() as folder, Ground(Path(folder), length) as ground:
        for name in options.names or NIGHTS:
            began = time.monotonic()
            NIGHTS[name](ground)
            print(f"{name}: good, in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
