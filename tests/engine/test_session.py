"""A whole run from another thread: what it says, what it leaves, and how it is steered."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine import events as ev
from engine.config import load_config
from engine.journal import read_journal
from engine.view import RunView
from tests.engine.workshop import (
    ENDLESS,
    PATIENCE,
    Finished,
    Workshop,
    finish,
    wait_for,
    wait_for_kind,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.session import Session

ITERATIONS = 8


@pytest.fixture(scope="module")
def trained(tiny: Workshop) -> Finished:
    """One run, looked at from all sides below."""
    return tiny.run(
        "trained",
        iters=ITERATIONS,
        steps_per_eval=4,
        save_every=3,
        sample_prompts=["Rome?", "Oslo?"],
        sample_max_tokens=3,
    )


def kinds(events: Sequence[ev.Event]) -> list[str]:
    """What happened on the trainer's thread; a checkpoint is there when it is written."""
    others = (ev.Host, ev.Progress, ev.CheckpointSaved, ev.Warned)
    return [event.kind for event in events if not isinstance(event, others)]


def test_events_come_in_the_order_of_a_run(trained: Finished) -> None:
    assert kinds(trained.events) == [
        *("data", "started", "sampled", "sampled", "evaluated"),
        *("step", "step", "step"),
        *("step", "evaluated", "sampled", "sampled"),
        *("step", "step"),
        *("step", "step", "evaluated", "sampled", "sampled"),
        "ended",
    ]
    # Looking at the machine takes a moment, in which the run goes on.
    times = [event.time for event in trained.events if not isinstance(event, ev.Host)]
    assert times == sorted(times)


def test_loading_is_told_before_it_is_done(trained: Finished) -> None:
    stages = [stage for stage, _ in groupby(event.stage for event in trained.of(ev.Progress))]
    assert stages[:6] == ["libraries", "data", "model", "data", "plan", "check"]
    assert set(stages[6:]) == {"evaluate", "sample"}


def test_the_journal_is_what_was_said(trained: Finished) -> None:
    assert read_journal(trained.directory.journal_file) == list(trained.events)


def test_the_view_of_it_is_complete(trained: Finished) -> None:
    view = RunView()
    view.apply_all(trained.events)
    assert (view.status, view.iteration, view.progress) == ("completed", ITERATIONS, 1.0)
    assert (len(view.steps), len(view.evaluations), len(view.samples)) == (ITERATIONS, 3, 6)
    assert view.best == min(trained.of(ev.Evaluated), key=lambda e: e.val_loss)


def test_it_says_what_it_will_do(trained: Finished) -> None:
    (started,) = trained.of(ev.Started)
    assert (started.name, started.run_dir) == ("trained", str(trained.directory.path))
    assert (started.iterations, started.updates, started.epochs) == (8, 8, 2.0)
    assert (started.train_rows, started.valid_rows, started.batch_size) == (16, 4, 4)
    assert (started.step, started.iteration) == ("layers", 0)
    assert started.tokens == sum(step.tokens for step in trained.of(ev.Step))
    # Rank 4 on q, k, v, o, gate, up and down of two layers.
    sides = (32 + 32, 32 + 16, 32 + 16, 32 + 32, 32 + 64, 32 + 64, 64 + 32)
    assert started.trainable_parameters == 2 * 4 * sum(sides)
    assert started.total_parameters > started.trainable_parameters
    assert started.plan.adapters == 4 * started.trainable_parameters
    assert started.plan.peak <= started.budget
    assert started.config == trained.config.model_dump(mode="json")
    assert {"mlx", "mlx-lm", "python"} <= started.versions.keys()


def test_steps_count_up_and_their_numbers_agree(trained: Finished) -> None:
    steps = trained.of(ev.Step)
    (started,) = trained.of(ev.Started)
    assert [step.iteration for step in steps] == list(range(1, ITERATIONS + 1))
    assert [step.updates for step in steps] == list(range(1, ITERATIONS + 1))
    for before, step in zip([None, *steps], steps, strict=False):
        assert step.trained_tokens == step.tokens + (before.trained_tokens if before else 0)
        assert step.tokens_per_second == pytest.approx(step.tokens / step.seconds)
        assert step.iterations_per_second == pytest.approx(1 / step.seconds)
        assert step.width in started.widths
        assert step.micro_batch == started.micro_batch
        assert 0 < step.memory.active <= step.memory.peak
        assert step.gradient_norm is not None
        assert step.gradient_norm > 0
    assert [step.epoch for step in steps] == [i / 4 for i in range(1, ITERATIONS + 1)]
    assert steps[0].eta_seconds is None


def test_it_is_evaluated_at_the_start_and_at_the_end(trained: Finished) -> None:
    evaluated = trained.of(ev.Evaluated)
    assert [event.iteration for event in evaluated] == [0, 4, ITERATIONS]
    assert [event.tokens for event in evaluated] == [evaluated[0].tokens] * 3
    best = math.inf
    for event in evaluated:
        assert event.best == (event.val_loss < best)
        best = min(best, event.val_loss)


def test_it_answers_as_the_base_first_and_then_with_the_adapters(trained: Finished) -> None:
    sampled = [(event.iteration, event.prompt, event.base) for event in trained.of(ev.Sampled)]
    assert sampled == [
        *((0, "Rome?", True), (0, "Oslo?", True)),
        *((4, "Rome?", False), (4, "Oslo?", False)),
        *((8, "Rome?", False), (8, "Oslo?", False)),
    ]


def test_checkpoints_are_on_disk(trained: Finished) -> None:
    saved = trained.of(ev.CheckpointSaved)
    assert [(event.iteration, event.reason) for event in saved] == [
        (3, "scheduled"),
        (4, "best"),
        (6, "scheduled"),
        (8, "final"),
    ]
    for event in saved:
        assert Path(event.path).stat().st_size == event.bytes
    losses = [event.val_loss for event in trained.of(ev.Evaluated)]
    assert [event.val_loss for event in saved] == [losses[0], losses[1], losses[1], losses[2]]
    assert [event.best for event in saved] == [False, True, False, True]
    assert {path.name for path in trained.directory.adapters.iterdir()} == {
        "adapter_config.json",
        "adapters.safetensors",
        "best.safetensors",
        "README.md",
        "curve.svg",
        *(f"{i:07d}_{what}" for i in (3, 4, 6, 8) for what in ("adapters.safetensors", "state")),
    }
    assert trained.weights == Path(saved[-1].path).read_bytes()


def test_nothing_else_is_written(trained: Finished) -> None:
    names = {path.name for path in trained.directory.path.iterdir()}
    assert names == {"config.yaml", "events.jsonl", "run.lock", "adapters", "report.html"}
    assert load_config(str(trained.directory.config_file)) == trained.config


def test_it_ends_well(trained: Finished) -> None:
    assert (trained.ended.status, trained.ended.iteration) == ("completed", ITERATIONS)
    assert (trained.ended.exit_code, trained.session.exit_code) == (0, 0)
    assert trained.session.error is None
    assert not trained.session.is_alive()
    assert not {"trainer", "watcher"} & {thread.name for thread in threading.enumerate()}


@pytest.fixture
def endless(workshop: Workshop) -> Iterator[Session]:
    """A run that goes on until it is stopped."""
    session = workshop.session(**ENDLESS, sample_prompts=["Rome?"], sample_max_tokens=2)
    session.start()
    yield session
    session.stop()
    assert session.join(PATIENCE)


def test_a_pause_lasts_until_it_is_over(endless: Session) -> None:
    _, seen = wait_for_kind(endless, ev.Step)
    endless.pause("lunch")
    paused, seen = wait_for_kind(endless, ev.Paused, seen)
    assert paused.reason == "lunch"
    saved = next(e for e in endless.events if isinstance(e, ev.CheckpointSaved))
    assert (saved.iteration, saved.reason) == (paused.iteration, "pause")
    assert Path(saved.path).is_file()
    endless.evaluate()
    evaluated, seen = wait_for_kind(endless, ev.Evaluated, seen)
    endless.sample()
    sampled, seen = wait_for_kind(endless, ev.Sampled, seen)
    assert (evaluated.iteration, sampled.iteration) == (paused.iteration, paused.iteration)
    assert not sampled.base
    endless.resume()
    resumed, seen = wait_for_kind(endless, ev.Resumed, seen)
    assert resumed.iteration == paused.iteration
    assert resumed.paused_seconds >= resumed.time - paused.time - 1
    step, _ = wait_for_kind(endless, ev.Step, seen)
    assert step.iteration == paused.iteration + 1
    steps = [event.iteration for event in endless.events if isinstance(event, ev.Step)]
    assert steps[: step.iteration] == list(range(1, step.iteration + 1))


def test_it_does_what_it_is_asked_between_steps(endless: Session) -> None:
    _, seen = wait_for_kind(endless, ev.Step)
    endless.sample()
    endless.checkpoint()
    endless.evaluate()
    wait_for_kind(endless, ev.Sampled, seen)
    wait_for_kind(endless, ev.CheckpointSaved, seen)
    _, seen = wait_for_kind(endless, ev.Evaluated, seen)
    wait_for_kind(endless, ev.Step, seen)
    steps = [event.iteration for event in endless.events if isinstance(event, ev.Step)]
    assert steps == list(range(1, len(steps) + 1))


def test_a_checkpoint_is_written_once_an_iteration_and_told_to_who_asks(
    endless: Session,
) -> None:
    _, seen = wait_for_kind(endless, ev.Step)
    endless.pause()
    paused, seen = wait_for_kind(endless, ev.Paused, seen)
    written: set[int] = set()
    for _ in range(3):
        endless.checkpoint()
        told, seen = wait_for_kind(endless, ev.CheckpointSaved, seen)
        written.add(Path(told.path).stat().st_ino)
        endless.sample()
        _, seen = wait_for_kind(endless, ev.Sampled, seen)
    endless.stop()
    assert endless.join(PATIENCE)
    saved = [event for event in endless.events if isinstance(event, ev.CheckpointSaved)]
    reasons = ["pause", "requested", "requested", "requested"]
    assert [(e.iteration, e.reason) for e in saved] == [(paused.iteration, r) for r in reasons]
    assert len(written) == 1


def test_a_stop_saves_and_ends(endless: Session) -> None:
    wait_for(endless, lambda event: isinstance(event, ev.Step) and event.iteration == 3)
    endless.stop("signal SIGTERM", "signal", 143)
    endless.stop("too late")
    run = finish(endless)
    ended, saved = run.ended, run.of(ev.CheckpointSaved)[-1]
    assert (ended.status, ended.reason, ended.exit_code) == ("stopped", "signal SIGTERM", 143)
    assert endless.exit_code == 143
    assert saved.reason == "signal"
    last = run.of(ev.Step)[-1].iteration
    assert last == ended.iteration == saved.iteration >= 3
    assert read_journal(run.directory.journal_file) == list(run.events)


def test_a_stop_ends_a_pause(endless: Session) -> None:
    _, seen = wait_for_kind(endless, ev.Step)
    endless.pause()
    paused, _ = wait_for_kind(endless, ev.Paused, seen)
    endless.stop()
    run = finish(endless)
    assert (run.ended.status, run.ended.iteration) == ("stopped", paused.iteration)
    assert run.ended.exit_code == 0
    assert run.of(ev.Resumed) == []
    assert [saved.reason for saved in run.of(ev.CheckpointSaved)] == ["pause"]


def test_a_stop_while_it_loads_leaves_nothing(workshop: Workshop) -> None:
    session = workshop.session()
    session.stop("changed my mind", exit_code=130)
    run = finish(session)
    assert (run.ended.status, run.ended.iteration, run.ended.exit_code) == ("stopped", 0, 130)
    assert run.ended.reason == "changed my mind"
    assert run.of(ev.Step) == []
    assert not list(workshop.folder.iterdir())


def test_a_stop_before_the_first_step_saves_nothing(workshop: Workshop) -> None:
    session = workshop.session(**ENDLESS)
    session.pause()
    session.start()
    wait_for_kind(session, ev.Paused)
    session.stop()
    run = finish(session)
    assert (run.ended.status, run.ended.iteration) == ("stopped", 0)
    assert run.of(ev.CheckpointSaved) == []
    names = {path.name for path in run.directory.adapters.iterdir()}
    assert names == {"adapter_config.json"}


def test_a_run_can_be_watched_while_it_goes_on(endless: Session) -> None:
    """A view that is fed from another thread, by index, sees everything once."""
    view, seen = RunView(), 0
    while view.iteration < 10:
        endless.wait_for_events(seen, PATIENCE)
        fresh = endless.events[seen:]
        view.apply_all(fresh)
        seen += len(fresh)
    assert list(view.steps.iteration[:10]) == list(range(1, 11))


PROGRAM = """
import sys
from engine.config import load_config
from engine.runs import RunDirectory
from engine.session import Session
from itertools import groupby
from pathlib import Path

session = Session(load_config(sys.argv[1]), RunDirectory(Path(sys.argv[2])))
session.start()
session.join()
print(session.events[-1].status, *sorted({"textual", "tui"} & set(sys.modules)))
"""


def test_the_engine_runs_without_a_screen(workshop: Workshop, trained: Finished) -> None:
    """In a process that has no more than the engine, can end after it, and compiles nothing."""
    run, scratch = workshop.folder / "alone", workshop.folder / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            PROGRAM,
            str(trained.directory.config_file),
            str(run),
        ],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "completed\n", "")
    assert (run / "adapters" / "adapters.safetensors").read_bytes() == trained.weights
    # Where MLX would put the sources that it has the system's C++ compiler translate.
    assert not list(scratch.rglob("*.cpp"))
