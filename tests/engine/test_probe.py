"""The widest step is tried before the first: it is told, corrects the plan, changes nothing."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from engine import events as ev
from engine import probe
from engine.event_words import in_words
from engine.events import MemoryPlan
from engine.guard import Pause, Pulse
from engine.journal import read_history
from engine.mailbox import Mailbox, Stop
from engine.resume import Resume
from engine.runs import RunDirectory
from engine.session import Session
from engine.train import train
from engine.view import RunView
from tests.engine.workshop import Workshop, finish, mixed_data

if TYPE_CHECKING:
    from engine.data.plan import Batch
    from engine.state import State

FEW = {"iters": 8, "steps_per_eval": 1000, "save_every": 200, "val_batches": 0}


@pytest.fixture(autouse=True)
def _worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probe before runs of a few steps too."""
    monkeypatch.setattr(probe, "MOST_SHARE", 1.0)


@pytest.fixture(scope="module")
def mixed(tiny: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("probe")
    return Workshop(folder, tiny.model, mixed_data(folder / "data"))


def test_a_probe_is_told_and_changes_nothing(mixed: Workshop) -> None:
    lora = {"rank": 4, "scale": 10.0, "dropout": 0.1}
    settings = FEW | {"grad_accumulation_steps": 2, "lora_parameters": lora}
    # MLX counts for the whole process: what earlier tests left must not go away meanwhile.
    gc.collect()
    run = mixed.run("with", **settings)
    without = mixed.run("without", probe=False, **settings)
    assert run.weights == without.weights
    assert run.losses == without.losses
    assert not without.of(ev.Probed)
    (told,) = run.of(ev.Probed)
    (started,) = run.of(ev.Started)
    steps = run.of(ev.Step)
    assert run.events.index(started) < run.events.index(told) < run.events.index(steps[0])
    assert told.width == max(started.widths)
    assert told.planned == started.plan.peak - started.plan.data
    assert told.plan.peak - told.plan.data == told.peak
    assert (told.plan.base, told.plan.optimizer) == (started.plan.base, started.plan.optimizer)
    assert told.peak == pytest.approx(max(step.memory.peak for step in steps), rel=0.02)
    assert told.micro_batch == told.planned_micro_batch == steps[0].micro_batch
    assert told.eta_seconds
    assert told.eta_low_seconds
    assert told.eta_seconds > told.eta_low_seconds > 0
    assert steps[0].eta_seconds
    assert told in read_history(run.directory.journal_file, 10)
    view = RunView()
    view.apply_all(run.events)
    assert view.probed == told
    assert "probed 0.0" in in_words(told)


def test_a_run_resumed_is_not_probed_again(mixed: Workshop) -> None:
    run = mixed.run("resumed", **FEW)
    directory = run.directory
    session = Session(mixed.config(**FEW | {"iters": 16}), directory, Resume(directory.adapters))
    again = finish(session)
    assert again.ended.status == "completed"
    assert not again.of(ev.Probed)


@pytest.mark.parametrize(
    ("iterations", "is_wanted", "iteration", "expected"),
    [
        (99, True, 0, False),
        (100, True, 0, True),
        (100, True, 1, False),
        (300, True, 200, True),
        (300, False, 0, False),
    ],
)
def test_a_probe_is_two_percent_of_what_is_left_at_most(
    monkeypatch: pytest.MonkeyPatch,
    *,
    iterations: int,
    is_wanted: bool,
    iteration: int,
    expected: bool,
) -> None:
    monkeypatch.setattr(probe, "MOST_SHARE", 0.02)
    plan = SimpleNamespace(width=np.full(iterations, 64, np.int32))
    prepared: Any = SimpleNamespace(plan=plan, config=SimpleNamespace(probe=is_wanted))
    assert probe.is_worthwhile(prepared, iteration) is expected


def test_rows_at_once_are_halved_until_it_fits(
    mixed: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(state: State, _batch: Batch, _iteration: int) -> tuple[int, float]:
        return 60_000_000 * state.mailbox.micro_batch(), 0.01

    monkeypatch.setattr(probe, "_tried", tried)
    run = mixed.run("halved", memory_budget_bytes=130_000_000, **FEW)
    (told,) = run.of(ev.Probed)
    assert (told.planned_micro_batch, told.micro_batch, told.peak) == (4, 2, 120_000_000)
    assert {step.micro_batch for step in run.of(ev.Step)} == {2}
    assert "2 at a time instead of 4" in in_words(told)
    assert not any("more than the" in warned.message for warned in run.of(ev.Warned))
    tight = mixed.run("tight", memory_budget_bytes=100_000_000, micro_batch_size=1, **FEW)
    assert tight.of(ev.Probed)[0].micro_batch == 1

    def never(_state: State, _batch: Batch, _iteration: int) -> tuple[int, float]:
        return 200_000_000, 0.01

    monkeypatch.setattr(probe, "_tried", never)
    stuck = mixed.run("stuck", memory_budget_bytes=100_000_000, **FEW)
    assert stuck.of(ev.Probed)[0].micro_batch == 1
    assert any("more than the 0.10 GB" in warned.message for warned in stuck.of(ev.Warned))


def test_outputs_kept_for_speed_are_given_up_before_rows(
    mixed: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def tried(state: State, _batch: Batch, _iteration: int) -> tuple[int, float]:
        kept.append(state.prepared.kept_bytes)
        return 100_000_000 + kept[-1], 0.01

    monkeypatch.setattr(probe, "_tried", tried)
    run = mixed.run("kept", memory_budget_bytes=100_100_000, **FEW)
    (told,) = run.of(ev.Probed)
    assert len(kept) > 1
    assert kept == sorted(kept, reverse=True)
    assert told.micro_batch == 4


def test_a_stop_leaves_a_probe_unsaid(mixed: Workshop) -> None:
    mailbox = Mailbox()
    told: list[ev.Event] = []
    for event in train(mixed.config(**FEW), RunDirectory(mixed.folder / "stopped"), mailbox):
        told.append(event)
        if isinstance(event, ev.Progress) and event.message == "trying the widest step":
            mailbox.stop(Stop("stopped as asked"))
    assert not [e for e in told if isinstance(e, ev.Probed | ev.Step)]
    ended = told[-1]
    assert isinstance(ended, ev.Ended)
    assert (ended.status, ended.iteration, ended.hint) == ("stopped", 0, "Nothing was trained yet.")


def test_the_guard_watches_over_the_probe(mixed: Workshop) -> None:
    """A pause that it orders then is obeyed at once, and changes nothing."""
    settings = FEW | {"deep_pause": True}
    plain = mixed.run("unwatched", **settings)
    mailbox, pulse = Mailbox(), Pulse()
    directory = RunDirectory(mixed.folder / "watched")
    told: list[ev.Event] = []
    phases: list[str] = []
    for event in train(mixed.config(**settings), directory, mailbox, pulse=pulse):
        told.append(event)
        match event:
            case ev.Progress(message="trying the widest step"):
                phases.append(pulse.facts("protect", micro_batch=1).phase)
                mailbox.order(Pause("yellow for a test", is_deep=True))
            case ev.Paused():
                mailbox.resume()
            case _:
                pass
    assert phases == ["training"]
    (paused,) = [e for e in told if isinstance(e, ev.Paused)]
    assert (paused.by, paused.iteration) == ("guard", 0)
    assert not [e for e in told if isinstance(e, ev.Probed)]
    adapters = (directory.adapters / "adapters.safetensors").read_bytes()
    assert adapters == plain.weights


def test_a_plan_is_corrected_by_what_was_measured() -> None:
    plan = MemoryPlan(base=100, adapters=10, activations=30, tail=5, data=7)
    assert probe.corrected(plan, 145) == plan
    more = probe.corrected(plan, 165)
    assert (more.other, more.peak - more.data) == (20, 165)
    less = probe.corrected(plan, 112)
    assert (less.base, less.activations, less.tail, less.peak - less.data) == (100, 0, 2, 112)
