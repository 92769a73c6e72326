"""A session's threads: how they begin, end and fail, whatever moment it happens at."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine import session as session_module
from engine.journal import read_journal
from engine.session import Session
from tests.engine.workshop import ENDLESS, PATIENCE, Workshop, finish, wait_for, wait_for_kind

if TYPE_CHECKING:
    from collections.abc import Generator


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name in {"trainer", "watcher"}]


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
    assert threads() == []


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
    watcher.join(PATIENCE)
    assert threads() == []


def test_nothing_follows_the_end(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is looked at in the very moment in which the run ends."""
    session = workshop.session(iters=1, memory_budget_bytes=10**9)
    looked = threading.Event()

    class Slow:
        def __enter__(self) -> Slow:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def sample(self) -> object:
            wait_for(session, lambda event: isinstance(event, ev.Ended))
            return session_module_sample()

    @contextmanager
    def awake_until_looked(_: int) -> Generator[None]:
        yield
        assert looked.wait(PATIENCE)

    def look(session: Session, host: Any) -> None:
        original(session, host)
        looked.set()

    original = Session._look  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(Session, "_look", look)
    monkeypatch.setattr(session_module, "HOST_SECONDS", 0.01)
    monkeypatch.setattr(session_module, "open_host", lambda _: Slow())
    monkeypatch.setattr(session_module, "keep_awake", awake_until_looked)
    run = finish(session)
    assert isinstance(run.events[-1], ev.Ended)
    assert read_journal(run.directory.journal_file) == list(run.events)


def session_module_sample() -> object:
    from engine.host import HostSample

    return HostSample(time=1.0)


def test_a_full_disk_under_the_journal(workshop: Workshop) -> None:
    """The device takes no byte; the run says so, and no thread dies of it."""
    session = workshop.session(**ENDLESS)
    session.directory.path.mkdir()
    session.directory.journal_file.symlink_to("/dev/full")
    run = finish(session)
    assert (run.ended.status, run.ended.exit_code) == ("failed", 1)
    assert "No space left" in run.ended.reason
    assert "Traceback" not in run.ended.hint
    assert threads() == []
