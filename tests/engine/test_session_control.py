"""A run in training, steered over its socket."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from engine import events as ev
from engine.control import ControlClient
from engine.errors import RunError
from tests.engine.workshop import ENDLESS, PATIENCE, Workshop, finish, wait_for, wait_for_kind

if TYPE_CHECKING:
    import pytest


def test_a_run_is_steered_from_outside(tiny: Workshop) -> None:
    session = tiny.session("reached", **ENDLESS, sample_prompts=["Rome?"], sample_max_tokens=2)
    session.start()
    _, seen = wait_for_kind(session, ev.Step)
    with ControlClient(session.directory.control_socket) as client:
        client.ask("subscribe")
        client.ask("policy", policy="watch")
        wait_for_kind(session, ev.PolicyChanged)
        client.ask("pause")
        paused, seen = wait_for_kind(session, ev.Paused, seen)
        assert paused.by == "person"
        for verb, kind in (
            ("checkpoint", ev.CheckpointSaved),
            ("evaluate", ev.Evaluated),
            ("sample", ev.Sampled),
            ("resume", ev.Resumed),
        ):
            client.ask(verb)  # pyright: ignore[reportArgumentType]
            _, seen = wait_for_kind(session, kind, seen)
        client.ask("stop")
        finished = finish(session)
        assert (finished.ended.status, finished.ended.exit_code) == ("stopped", 0)
        lines: list[bytes] = []
        while not lines or json.loads(lines[-1])["event"] != "ended":
            lines += client.read(PATIENCE)
    assert b"\n".join(lines) + b"\n" == finished.directory.journal_file.read_bytes()
    assert not session.directory.control_socket.exists()


def test_a_run_that_cannot_be_reached_trains_all_the_same(
    tiny: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(13, "Permission denied")

    monkeypatch.setattr("engine.control.place.listen", refuse)
    finished = tiny.run("unreached")
    assert finished.ended.status == "completed"
    (warned,) = [e for e in finished.of(ev.Warned) if "not steer it" in e.message]
    assert "Permission denied" in warned.message


def test_a_full_disk_is_seen_from_outside(tiny: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tiny.session("full", **ENDLESS)
    session.start()
    wait_for_kind(session, ev.Step)
    client = ControlClient(session.directory.control_socket)
    client.ask("subscribe", **{"from": -1})

    def fill(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr("engine.journal.Journal.append", fill)
        wait_for(session, lambda event: isinstance(event, ev.Guard))
        told: list[bytes] = []
        while not any(b"The disk is full" in line for line in told):
            told += client.read(PATIENCE)
    session.stop()
    finish(session)
    rest: list[bytes] = []
    try:
        while True:
            rest += client.read(PATIENCE)
    except RunError:
        client.close()
    journal = session.directory.journal_file.read_bytes().splitlines()
    assert (told + rest) == journal[-len(told + rest) :]
