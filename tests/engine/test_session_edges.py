"""A session's threads: how they begin, end and fail, whatever moment it happens at."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine import events as ev
from engine import session as session_module
from engine.guard import Guard, GuardSettings
from engine.host import HostSample
from engine.journal import read_journal
from engine.session import Session
from tests.engine.workshop import ENDLESS, PATIENCE, Workshop, finish, wait_for

if TYPE_CHECKING:
    from collections.abc import Generator

    import pytest


def threads_left() -> list[str]:
    """Which of a session's threads do not end."""
    own = [t for t in threading.enumerate() if t.name in {"trainer", "watcher"}]
    for thread in own:
        thread.join(PATIENCE)
    return [thread.name for thread in own if thread.is_alive()]


def test_before_it_begins(workshop: Workshop) -> None:
    session = workshop.session()
    assert session.join(0)
    assert (session.is_alive(), session.exit_code, list(session.events)) == (False, 0, [])
    assert not session.directory.path.exists()


def test_waiting_for_events_ends_with_the_time_or_the_run(workshop: Workshop) -> None:
    session = workshop.session(iters=1)
    assert session.wait_for_events(0, 0.01) == 0
    run = finish(session)
    assert session.wait_for_events(0, PATIENCE) == len(run.events)
    assert session.wait_for_events(len(run.events), PATIENCE) == len(run.events)
    assert threads_left() == []


def test_a_run_that_fails_at_once_ends_in_order(workshop: Workshop) -> None:
    """Also when it is over before its second thread has begun."""
    session = workshop.session(data=str(workshop.folder / "missing"))
    watcher: Any = session._watcher  # pyright: ignore[reportPrivateUsage]
    begin = watcher.start

    def begin_late() -> None:
        session.join(PATIENCE)
        begin()

    watcher.start = begin_late
    run = finish(session)
    assert (run.ended.status, run.ended.exit_code) == ("failed", 2)
    assert threads_left() == []


class LooksAtTheEnd:
    """A machine that is looked at in the very moment in which the run ends."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __enter__(self) -> LooksAtTheEnd:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def sample(self) -> HostSample:
        wait_for(self.session, lambda event: isinstance(event, ev.Ended))
        return HostSample(time=1.0)


def test_nothing_follows_the_end(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    session = workshop.session(iters=1)
    looked = threading.Event()
    look: Any = Session._look  # pyright: ignore[reportPrivateUsage]

    def look_and_tell(session: Session, host: Any) -> None:
        look(session, host)
        looked.set()

    @contextmanager
    def awake_until_looked(_: int) -> Generator[None]:
        yield
        assert looked.wait(PATIENCE)

    monkeypatch.setattr(Session, "_look", look_and_tell)
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.01)
    monkeypatch.setattr(session_module, "open_host", lambda _: LooksAtTheEnd(session))
    monkeypatch.setattr(session_module, "keep_awake", awake_until_looked)
    run = finish(session)
    assert isinstance(run.events[-1], ev.Ended)
    assert read_journal(run.directory.journal_file) == list(run.events)


def test_the_machine_is_watched_while_it_goes_on(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.01)
    session = workshop.session(**ENDLESS)
    session.start()
    seen = wait_for(session, lambda event: isinstance(event, ev.Host))
    wait_for(session, lambda e: isinstance(e, ev.Step) and e.memory.footprint is not None, seen)
    session.stop()
    run = finish(session)
    host = run.of(ev.Host)[0]
    assert host.memory_total is not None
    assert host.available is not None
    assert 0 < host.available < host.memory_total
    assert read_journal(run.directory.journal_file) == list(run.events)


def test_a_full_disk_under_the_journal(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device takes no byte: the run stands still, says so, and goes on once there is space."""
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.01)
    session = workshop.session(**ENDLESS)
    journal = session.directory.journal_file
    journal.parent.mkdir()
    journal.symlink_to("/dev/full")
    session.start()
    wait_for(session, lambda event: isinstance(event, ev.Paused))
    guard = next(e for e in session.events if isinstance(e, ev.Guard))
    assert guard.action == "pause"
    assert "The disk is full: saving needs" in guard.why
    session.stop()
    run = finish(session)
    assert (run.ended.status, run.ended.exit_code) == ("stopped", 0)
    assert threads_left() == []


def test_a_disk_that_fills_up_and_is_cleared(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever thread meets it first, the run waits, and nothing that happened is missing."""
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.01)
    session = workshop.session(**ENDLESS)
    session.start()
    wait_for(session, lambda event: isinstance(event, ev.Host))
    wait_for(session, lambda event: isinstance(event, ev.Step))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    journal: Any = session._journal  # pyright: ignore[reportPrivateUsage]
    append, journal.append = journal.append, refuse
    seen = wait_for(session, lambda event: isinstance(event, ev.Paused))
    journal.append = append
    seen = wait_for(session, lambda event: isinstance(event, ev.Resumed), seen)
    wait_for(session, lambda event: isinstance(event, ev.Step), seen)
    session.stop()
    run = finish(session)
    assert (run.ended.status, session.exit_code) == ("stopped", 0)
    assert read_journal(run.directory.journal_file) == list(run.events)
    assert threads_left() == []


def test_a_checkpoint_that_cannot_be_written(workshop: Workshop) -> None:
    session = workshop.session(iters=9, save_every=2, steps_per_eval=100)
    (session.directory.adapters / "0000004_adapters.safetensors").mkdir(parents=True)
    run = finish(session)
    assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
    # It is written beside training, so that the next step may have begun.
    assert run.ended.iteration in {4, 5}
    assert str(run.directory.adapters) in run.ended.reason
    assert run.session.error is not None
    assert [event.iteration for event in run.of(ev.CheckpointSaved)] == [2]
    latest = run.directory.adapters / "adapters.safetensors"
    assert latest.read_bytes() == (latest.parent / "0000002_adapters.safetensors").read_bytes()
    assert read_journal(run.directory.journal_file) == list(run.events)


def broken(*_: object, **__: object) -> float:
    raise ZeroDivisionError("of all things")


def test_a_fault_of_the_program_is_told_and_logged(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.train.run_step", broken)
    run = workshop.run()
    assert (run.ended.status, run.ended.iteration, run.ended.exit_code) == ("failed", 0, 1)
    assert run.ended.reason == "ZeroDivisionError: of all things"
    assert str(run.directory.log_file) in run.ended.hint
    assert "Traceback" in run.directory.log_file.read_text(encoding="utf-8")
    assert read_journal(run.directory.journal_file) == list(run.events)


def test_a_fault_that_cannot_be_logged_is_told_whole(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a folder, and where the folder takes nothing."""
    monkeypatch.setattr("engine.prepare.read_data", broken)
    early = workshop.run("early")
    assert not early.directory.path.exists()
    monkeypatch.undo()
    monkeypatch.setattr("engine.train.run_step", broken)
    session = workshop.session("late")
    session.directory.log_file.mkdir(parents=True)
    late = finish(session)
    for run in (early, late):
        assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
        assert "in broken" in run.ended.hint
    assert threads_left() == []


def test_a_step_that_stalls_is_told_while_it_does(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.01)
    settings = GuardSettings(first_stall_seconds=0.3, stall_seconds=0.3, stall_factor=0.0)
    monkeypatch.setattr(session_module, "Guard", lambda config: Guard(config, settings))
    import engine.train as train_module

    run_step, told = train_module.run_step, threading.Event()

    def stall(*given: Any, **named: Any) -> float:
        if given[7] == 3:
            assert told.wait(PATIENCE)
        return run_step(*given, **named)

    monkeypatch.setattr(train_module, "run_step", stall)
    session = workshop.session(iters=6, val_batches=0)
    session.start()
    wait_for(session, lambda e: isinstance(e, ev.Warned) and "has not ended" in e.message)
    told.set()
    run = finish(session)
    assert run.ended.status == "completed"
    stalled = [e.message for e in run.of(ev.Warned) if "has not ended" in e.message]
    assert stalled[0].startswith("Step 3 has not ended")
    assert run.calls == ["stalled", "finished"]
