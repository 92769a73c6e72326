"""Measures what it costs that a run can be reached from outside, and how soon it answers.

    uv run python -m tests.bench.control readers [--pairs 70 --steps 25]
    uv run python -m tests.bench.control attach
    uv run python -m tests.bench.control status
    uv run python -m tests.bench.control alone
    uv run python -m tests.bench.control

``readers`` trains the demo's model in one process, in turns with nobody attached and with ten
readers of which one takes nothing, so that whatever else the machine does falls on both. ``alone``
is a run in the background that stands still: what it takes then, it takes besides training.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import yaml

from engine import events as ev
from engine.config import validate
from engine.control import ControlClient
from engine.errors import RunError
from engine.runs import RunDirectory
from engine.session import Session
from tests.cli.program import environment
from tests.e2e.screen import Screen
from tests.tui.elsewhere import Elsewhere
from tests.tui.scripted import ScriptedRun

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = [sys.executable, "-m", "tui"]
DEMO = Path(__file__).parents[2] / "presets" / "demo"
PATIENCE = 120.0
READERS = 10
SETTLE_SECONDS = 1.0
EVENTS = 100_000
TRIES = 5
ALONE_SECONDS = 20.0
BARS = {"readers": 0.01, "attach": 1.5, "status": 0.4, "alone": 0.01}
ENDLESS: dict[str, Any] = {
    "model": str(DEMO / "model"), "data": str(DEMO / "data"), "iters": 1_000_000, "batch_size": 2,
    "max_seq_length": 64, "probe": False, "num_layers": -1, "val_batches": 0, "sample_rows": 0,
    "save_every": 1_000_000, "steps_per_eval": 1_000_000,
    "lora_parameters": {"rank": 8, "scale": 20.0, "dropout": 0.0},
}  # fmt: skip


def main() -> None:
    """Measure what was asked for, everything if nothing was, and print a line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=(*BARS, "read"))
    parser.add_argument("socket", nargs="?", type=Path)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    given = parser.parse_args()
    measures: dict[str, Callable[[Path], None]] = {
        "readers": partial(readers, pairs=given.pairs, steps=given.steps),
        "attach": attach,
        "status": status,
        "alone": alone,
    }
    if given.what == "read":
        read(given.socket)
        return
    for name, measure in measures.items():
        if given.what in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder))


def readers(folder: Path, *, pairs: int, steps: int) -> None:
    """Compare so many steps with and without readers, in turns."""
    session = Session(validate(ENDLESS), RunDirectory(folder / "run"))
    session.start()
    while not any(isinstance(event, ev.Step) for event in session.events):
        session.wait_for_events(len(session.events), PATIENCE)
    ratios: list[float] = []
    shares: list[float] = []
    for turn in range(pairs):
        # Who is first changes, as a machine warms up.
        pair = [_pace(session, steps, is_read=(turn + which) % 2 == 1) for which in range(2)]
        (alone_, _), (attached, share) = pair if turn % 2 == 0 else pair[::-1]
        ratios.append(attached / alone_ - 1)
        shares.append(share)
        print(f"step {1000 * alone_:.2f} ms alone, {1000 * attached:.2f} ms attached", flush=True)
    session.stop()
    session.join()
    _say("training slowed by 10 readers", statistics.median(ratios), BARS["readers"])
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=pairs)) for _ in range(4_000))
    low, high = medians[100], medians[-101]
    print(f"the median's 95 % interval, by resampling: {100 * low:+.2f} to {100 * high:+.2f} %")
    print(f"the socket's thread: {100 * statistics.fmean(shares):.2f} % of a core with ten readers")


def _pace(session: Session, steps: int, *, is_read: bool) -> tuple[float, float]:
    """Return the median seconds of a step over a while, with ten readers or with none.

    The second is what the socket's own thread took of a core meanwhile: where steps vary by more
    than readers cost, it says what they can cost.
    """
    command = [sys.executable, "-m", "tests.bench.control", "read"]
    with contextlib.ExitStack() as stack:
        if is_read:
            process = subprocess.Popen(
                [*command, str(session.directory.control_socket)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            stack.enter_context(process)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            # Closing it ends the readers, before they are waited for.
            stack.enter_context(process.stdin)
        time.sleep(SETTLE_SECONDS)
        begin, began, busy = len(session.events), time.perf_counter(), _socket_seconds()
        seconds: list[float] = []
        while len(seconds) < steps:
            session.wait_for_events(len(session.events), PATIENCE)
            new = session.events[begin:]
            seconds = [event.seconds for event in new if isinstance(event, ev.Step)]
        share = (_socket_seconds() - busy) / (time.perf_counter() - began)
    return statistics.median(seconds), share


def _socket_seconds() -> float:
    (ours,) = (thread.native_id for thread in threading.enumerate() if thread.name == "control")
    known = {thread.id: thread for thread in psutil.Process().threads()}
    return known[ours].user_time + known[ours].system_time if ours else 0.0


def read(path: Path) -> None:
    """Be ten readers until the standard input ends; one asks for everything and takes nothing."""
    clients = [ControlClient(path) for _ in range(READERS)]
    for number, client in enumerate(clients):
        client.ask("subscribe", **{"from": -1 if number else 0})
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        for client in clients[1:]:
            # Nothing is done with it: a screen's own work is no business of the run's.
            with contextlib.suppress(RunError):
                client.read()
    for client in clients:
        client.close()


def attach(folder: Path) -> None:
    """Open the dashboard of a long run in another process, until every pane is drawn."""
    mixes = {"a step in 2.1 s, a look at the machine a second": 2, "nearly all steps": 0}
    for what, hosts in mixes.items():
        run = _long_run(folder / what.split(maxsplit=1)[0] / "runs" / "long", hosts)
        home = run.directory.path.parents[1]
        seconds: list[float] = []
        for _ in range(TRIES):
            command = [*PROGRAM, "attach", "long"]
            with Screen(command, environment(home), (120, 40)) as screen:
                for words in ("tok/s", "saved", "average of"):
                    screen.wait_for(words, PATIENCE)
                seconds.append(time.perf_counter() - screen.started)
        run.leave()
        _say(f"attach, {EVENTS:,} events, {what}", statistics.median(seconds), BARS["attach"])


def status(folder: Path) -> None:
    """Ask how a long run stands."""
    run = _long_run(folder / "runs" / "long", 2)
    seconds: list[float] = []
    for _ in range(TRIES + 1):
        began = time.perf_counter()
        subprocess.run(
            [*PROGRAM, "status", "long"], env=environment(folder), check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - began)
    run.leave()
    # The first one warms the disk's cache.
    _say("status", statistics.median(seconds[1:]), BARS["status"])


def alone(folder: Path) -> None:
    """Watch what a run in the background takes while it stands still."""
    config = folder / "demo.yaml"
    config.write_text(yaml.safe_dump(ENDLESS), encoding="utf-8")
    path, home = folder / "run", environment(folder)
    words = ["run", str(config), "--run-dir", str(path), "--detach"]
    subprocess.run([*PROGRAM, *words], env=home, check=True, capture_output=True)
    run = RunDirectory(path)
    process = psutil.Process(int(run.lock_file.read_text(encoding="utf-8")))
    subprocess.run([*PROGRAM, "pause", str(path)], env=home, check=True, capture_output=True)
    time.sleep(SETTLE_SECONDS)
    before, began = process.cpu_times(), time.perf_counter()
    time.sleep(ALONE_SECONDS)
    after, seconds = process.cpu_times(), time.perf_counter() - began
    subprocess.run([*PROGRAM, "stop", str(path)], env=home, check=True, capture_output=True)
    share = (after.user + after.system - before.user - before.system) / seconds
    _say("a run without a screen, besides training", share, BARS["alone"])


def _long_run(path: Path, hosts_a_step: int) -> Elsewhere:
    """Make a run in training with a long journal, which this process serves."""
    run = Elsewhere(path, ScriptedRun(EVENTS))
    run.script.start()
    run.script.begin()
    host = next(event for event in run.script.log if isinstance(event, ev.Host))
    while len(run.script.log) < EVENTS:
        run.script.advance(1)
        run.script.log += [host] * hosts_a_step
    run.tell()
    run.listen()
    return run


def _say(what: str, measured: float, bar: float) -> None:
    is_share = bar < 0.1
    shown, limit = (
        (f"{100 * measured:.2f} %", f"{100 * bar:g} %")
        if is_share
        else (f"{measured:.2f} s", f"{bar:g} s")
    )
    verdict = "ok" if measured <= bar else "over"
    facts = {"measured": measured, "bar": bar, "load": os.getloadavg()[0]}
    print(f"{what}: {shown} (bar {limit}) {verdict} {json.dumps(facts)}", flush=True)


if __name__ == "__main__":
    main()
