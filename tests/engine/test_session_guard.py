"""A session under its guard: a scripted machine runs short of memory, and the run obeys."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from engine import checkpoint
from engine import events as ev
from engine import session as session_module
from engine.event_words import in_words
from engine.guard import Guard, GuardSettings, Pause
from engine.journal import read_journal
from engine.resume import FREE
from tests.engine.guard_world import CALM, GB
from tests.engine.workshop import ENDLESS, PATIENCE, Workshop, finish, wait_for, wait_for_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.host import HostSample
    from engine.session import Session

QUICK: dict[str, Any] = {"yellow_seconds": 0, "grace_seconds": 0, "green_seconds": 0}
"""Every sample counts."""
LEARNING: dict[str, Any] = {**ENDLESS, **QUICK, "micro_batch_size": 4, "deep_pause": False}
DEEP: dict[str, Any] = {**QUICK, "micro_batch_size": 1, "deep_pause": True}


class Machine:
    """A host that is as the test says."""

    def __init__(self) -> None:
        self.now: HostSample = CALM

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> HostSample:
        return self.now

    def turn(self, **changes: Any) -> None:
        self.now = replace(self.now, **changes)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.02)
    monkeypatch.setattr(session_module, "open_host", lambda _: made)
    return made


@pytest.fixture
def session(workshop: Workshop, machine: Machine) -> Iterator[Session]:
    """A run on a calm machine that trains and goes on until it is stopped."""
    machine.turn(pressure="green")
    made = workshop.session(**LEARNING)
    made.start()
    wait_for_kind(made, ev.Step)
    wait_for_kind(made, ev.Host)
    yield made
    made.stop()
    assert made.join(PATIENCE)


def actions(session: Session) -> list[str]:
    return [event.action for event in session.events if isinstance(event, ev.Guard)]


def order_once(
    session: Session, moment: str, is_now: Callable[..., bool], *, is_deep: bool = False
) -> list[Pause]:
    """Let the guard order a pause once, the moment that the trainer tells its pulse of a thing."""
    pulse: Any = session._pulse  # pyright: ignore[reportPrivateUsage]
    mailbox: Any = session._mailbox  # pyright: ignore[reportPrivateUsage]
    tell = getattr(pulse, moment)
    ordered: list[Pause] = []

    def tell_and_order(*arguments: Any, **named: Any) -> Any:
        if is_now(*arguments, **named) and not ordered:
            ordered.append(Pause("yellow for a test", is_deep))
            mailbox.order(ordered[0])
        return tell(*arguments, **named)

    setattr(pulse, moment, tell_and_order)
    return ordered


def wait_for_pause(session: Session) -> int:
    return wait_for(session, lambda event: isinstance(event, ev.Paused))


def test_it_shrinks_pauses_and_goes_on_by_itself(session: Session, machine: Machine) -> None:
    machine.turn(pressure="yellow", available_bytes=1 * GB)
    seen = wait_for_pause(session)
    paused = session.events[seen - 1]
    assert isinstance(paused, ev.Paused)
    assert (paused.by, "memory pressure yellow" in paused.reason) == ("guard", True)
    assert "other programs grew by 2.0 GB" in paused.reason
    assert paused.freed is not None
    saved = [event for event in session.events if isinstance(event, ev.CheckpointSaved)]
    assert (saved[-1].iteration, saved[-1].reason) == (paused.iteration, "pressure")
    shrunk = [e for e in session.events if isinstance(e, ev.Guard) and e.action == "shrink"]
    assert [e.micro_batch for e in shrunk if e.micro_batch] == [2, 1]
    assert actions(session)[-2:] == ["shrink", "pause"]
    # It holds while it is yellow, and serves all the same.
    session.evaluate()
    evaluated, seen = wait_for_kind(session, ev.Evaluated, seen)
    assert evaluated.iteration == paused.iteration
    machine.turn(pressure="green", available_bytes=3 * GB)
    resumed, seen = wait_for_kind(session, ev.Resumed, seen)
    assert (resumed.iteration, actions(session)[-1]) == (paused.iteration, "resume")
    step, _ = wait_for_kind(session, ev.Step, seen)
    assert (step.iteration, step.micro_batch) == (paused.iteration + 1, 1)
    steps = [event.iteration for event in session.events if isinstance(event, ev.Step)]
    assert steps == list(range(1, len(steps) + 1))


def test_red_saves_and_stops_with_the_guards_exit_code(session: Session, machine: Machine) -> None:
    machine.turn(pressure="red")
    run = finish(session)
    assert (run.ended.status, run.ended.exit_code, session.exit_code) == ("aborted", 3, 3)
    assert run.calls == ["stopped"]
    assert "memory pressure red" in run.ended.reason
    last = run.of(ev.CheckpointSaved)[-1]
    assert (last.iteration, last.reason) == (run.ended.iteration, "pressure")
    (abort,) = run.of(ev.Guard)
    assert (abort.action, abort.offer) == ("abort", {"batch_size": 2})
    assert read_journal(run.directory.journal_file) == list(run.events)


def test_red_while_it_is_paused_ends_it(session: Session, machine: Machine) -> None:
    machine.turn(pressure="yellow")
    wait_for_pause(session)
    machine.turn(pressure="red")
    run = finish(session)
    assert (run.ended.status, session.exit_code) == ("aborted", 3)
    assert [saved.reason for saved in run.of(ev.CheckpointSaved)] == ["pressure"]


def test_red_while_it_loads_ends_it_with_nothing_written(
    workshop: Workshop, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()
    order: Any = session_module.Session._order  # pyright: ignore[reportPrivateUsage]

    def order_and_tell(session: Session, *arguments: Any) -> None:
        order(session, *arguments)
        looked.set()

    def wait_for_the_guard() -> None:
        assert looked.wait(PATIENCE)

    monkeypatch.setattr(session_module.Session, "_order", order_and_tell)
    monkeypatch.setattr("engine.blas.preload_openblas", wait_for_the_guard)
    machine.turn(pressure="red")
    run = finish(workshop.session(**LEARNING))
    assert (run.ended.status, run.ended.exit_code) == ("aborted", 3)
    assert not list(workshop.folder.iterdir())


def test_the_policy_abort_stops_at_yellow(session: Session, machine: Machine) -> None:
    session.set_policy("abort")
    session.set_policy("abort")
    machine.turn(pressure="yellow")
    run = finish(session)
    assert (run.ended.status, run.ended.exit_code) == ("aborted", 3)
    assert [event.policy for event in run.of(ev.PolicyChanged)] == ["abort"]
    assert actions(session) == ["abort"]


def test_the_policy_watch_only_says_so(session: Session, machine: Machine) -> None:
    session.set_policy("watch")
    machine.turn(pressure="red")
    seen = wait_for(
        session, lambda e: isinstance(e, ev.Warned) and "The guard only watches" in e.message
    )
    wait_for_kind(session, ev.Step, seen)
    assert actions(session) == []


def test_a_person_ends_the_guards_pause(session: Session, machine: Machine) -> None:
    machine.turn(pressure="yellow")
    seen = wait_for_pause(session)
    # The guard has seen that it stands still.
    for _ in range(2):
        _, seen = wait_for_kind(session, ev.Host, seen)
    session.resume()
    _, seen = wait_for_kind(session, ev.Resumed, seen)
    # Who goes on in spite of the strain knows of it: no second pause.
    for _ in range(3):
        _, seen = wait_for_kind(session, ev.Host, seen)
    wait_for_kind(session, ev.Step, seen)
    assert "resume" not in actions(session)
    assert actions(session).count("pause") == 1


def test_the_guard_does_not_end_a_persons_pause(session: Session, machine: Machine) -> None:
    session.pause("lunch")
    seen = wait_for_pause(session)
    for pressure in ("yellow", "green"):
        machine.turn(pressure=pressure)
        for _ in range(3):
            _, seen = wait_for_kind(session, ev.Host, seen)
    assert not [event for event in session.events if isinstance(event, ev.Resumed)]
    assert actions(session) == []


def test_a_person_who_pauses_too_keeps_the_guard_from_going_on(
    session: Session, machine: Machine
) -> None:
    machine.turn(pressure="yellow")
    seen = wait_for_pause(session)
    session.pause("lunch")
    machine.turn(pressure="green")
    for _ in range(5):
        _, seen = wait_for_kind(session, ev.Host, seen)
    assert not [event for event in session.events if isinstance(event, ev.Resumed)]
    session.resume()
    wait_for_kind(session, ev.Resumed, seen)


def test_sleep_is_told(session: Session, machine: Machine) -> None:
    machine.turn(sleep_gap_seconds=3600.0)
    slept, _ = wait_for_kind(session, ev.Slept)
    machine.turn(sleep_gap_seconds=None)
    assert slept.seconds == 3600


def test_an_evaluation_that_a_pause_drops_is_done_again(
    workshop: Workshop, machine: Machine
) -> None:
    machine.turn(pressure=None)
    session = workshop.session(**LEARNING)
    pauses = order_once(session, "phase", lambda name: name == "evaluating")
    session.start()
    paused, seen = wait_for_kind(session, ev.Paused)
    assert (paused.by, paused.iteration, len(pauses)) == ("guard", 0, 1)
    session.resume()
    evaluated, seen = wait_for_kind(session, ev.Evaluated, seen)
    assert evaluated.iteration == 0
    session.stop()
    run = finish(session)
    assert [event.iteration for event in run.of(ev.Evaluated)] == [0]


def test_a_dropped_step_changes_nothing(workshop: Workshop, machine: Machine) -> None:
    """A pause in the middle of a step leaves the same bytes as none."""
    machine.turn(pressure=None)
    plain = workshop.run("plain", grad_accumulation_steps=2)
    session = workshop.session("paused", grad_accumulation_steps=2)
    begun: list[int] = []

    def is_fourth(width: int) -> bool:
        begun.append(width)
        return len(begun) == 4

    pauses = order_once(session, "begin_step", is_fourth)
    session.start()
    paused, _ = wait_for_kind(session, ev.Paused)
    assert (paused.iteration, len(pauses)) == (3, 1)
    session.resume()
    run = finish(session)
    assert len(begun) == plain.config.iters + 1
    assert (run.losses, run.weights) == (plain.losses, plain.weights)


@pytest.fixture
def deep(workshop: Workshop, machine: Machine) -> Iterator[Session]:
    """A run that the guard made stand still after its third step, without its base weights."""
    machine.turn(pressure=None)
    session = workshop.session("deep", **DEEP)
    begun: list[int] = []

    def is_fourth(width: int) -> bool:
        begun.append(width)
        return len(begun) == 4

    order_once(session, "begin_step", is_fourth, is_deep=True)
    session.start()
    wait_for_pause(session)
    yield session
    session.stop()
    assert session.join(PATIENCE)


def test_a_deep_pause_gives_the_base_weights_back(deep: Session) -> None:
    paused = next(event for event in deep.events if isinstance(event, ev.Paused))
    started = next(event for event in deep.events if isinstance(event, ev.Started))
    assert (paused.by, paused.deep, paused.iteration) == ("guard", True, 3)
    assert paused.freed is not None
    assert paused.freed > 0.95 * started.plan.base
    assert "came back" in in_words(paused)
    step = [event for event in deep.events if isinstance(event, ev.Step)][-1]
    assert step.memory.active - mx.get_active_memory() > 0.9 * started.plan.base


def test_a_deep_pause_changes_nothing(deep: Session, workshop: Workshop) -> None:
    plain = workshop.run("plain", **DEEP)
    deep.resume()
    run = finish(deep)
    assert (run.losses, run.weights) == (plain.losses, plain.weights)
    assert [e.message for e in run.of(ev.Progress)].count("loading the base weights again") == 1


def test_what_needs_the_weights_waits_for_them(deep: Session) -> None:
    seen = len(deep.events)
    deep.evaluate()
    warned, seen = wait_for_kind(deep, ev.Warned, seen)
    assert "waits until training goes on" in warned.message
    deep.checkpoint()
    _, seen = wait_for_kind(deep, ev.CheckpointSaved, seen)
    deep.resume()
    evaluated, _ = wait_for_kind(deep, ev.Evaluated, seen)
    assert evaluated.iteration == 3


def test_a_run_ends_out_of_a_deep_pause(deep: Session) -> None:
    deep.stop()
    run = finish(deep)
    assert (run.ended.status, run.ended.iteration) == ("stopped", 3)
    assert checkpoint.verify(run.directory.adapters, 3)["iteration"] == 3


def test_weights_that_changed_meanwhile_end_the_run(deep: Session, workshop: Workshop) -> None:
    (path,) = workshop.model.glob("*.safetensors")
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        deep.resume()
        run = finish(deep)
    finally:
        path.write_bytes(whole)
    assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
    assert "is not the model any more" in run.ended.reason
    assert checkpoint.verify(run.directory.adapters, 3)["iteration"] == 3


def test_red_in_a_deep_pause_waits(deep: Session, machine: Machine) -> None:
    machine.turn(pressure="red")
    seen = len(deep.events)
    for _ in range(5):
        _, seen = wait_for_kind(deep, ev.Host, seen)
    assert deep.events[-1].kind == "host"
    deep.set_policy("watch")
    machine.turn(pressure="green")


def test_device_errors_are_put_into_words_and_save_nothing(
    workshop: Workshop, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    del machine

    def fail(*_: object, **__: object) -> float:
        raise RuntimeError(
            "[METAL] Command buffer execution failed: Impacting Interactivity "
            "(0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
        )

    monkeypatch.setattr("engine.train.run_step", fail)
    run = workshop.run()
    assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
    assert "the lit display has to stay smooth" in run.ended.reason
    assert "micro_batch_size: 1" in run.ended.hint
    assert run.of(ev.CheckpointSaved) == []


def test_when_the_guard_acts_may_change_within_a_run(workshop: Workshop) -> None:
    config = workshop.config(on_pressure="abort", **QUICK)
    guard = Guard(config)
    assert guard.settings == GuardSettings(
        yellow_seconds=0, grace_seconds=0, green_seconds=0, deep_pause=True
    )
    assert {"on_pressure", "deep_pause", *QUICK} <= FREE
