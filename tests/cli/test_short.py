"""A machine that is short of memory before a run has begun: it is said, and a person is asked."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

import engine.host
from engine.host import HostSample, HostSampler
from tui import cli_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.events import Pressure
    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome

SHORT = "Memory pressure is yellow before the run has begun, 0.4 GB available."


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What would have begun to train."""
    followed: list[object] = []

    def follow(session: object, _output: str) -> int:
        followed.append(session)
        return 0

    monkeypatch.setattr(cli_run, "_follow", follow)
    return followed


@pytest.fixture
def machine_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Pressure], None]:
    """Puts the machine under a memory pressure."""

    def put(pressure: Pressure) -> None:
        sample = HostSample(time=1.0, pressure=pressure, available_bytes=4 * 10**8)
        monkeypatch.setattr(
            engine.host, "open_host", lambda _folder: HostSampler(lambda _time: sample)
        )

    return put


@pytest.mark.parametrize(("answer", "begins"), [("n\n", 0), ("\n", 0), ("y\n", 1)])
def test_a_person_is_asked(
    call: Callable[..., Outcome],
    tiny: Tiny,
    home: Path,
    machine_at: Callable[[Pressure], None],
    begun: list[object],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    begins: int,
) -> None:
    machine_at("yellow")
    monkeypatch.setattr(cli_run, "has_person", lambda: True)
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    outcome = call("run", tiny.config("short"), "--json")
    assert f"{SHORT}\nTrain all the same?" in outcome.err
    assert (outcome.code, outcome.out, len(begun)) == (0, "", begins)
    assert ("Nothing was done." in outcome.err) == (not begins)
    assert not home.exists()


@pytest.mark.parametrize("options", [("--yes",), ()])
def test_where_nobody_is_asked_it_is_only_said(
    call: Callable[..., Outcome],
    tiny: Tiny,
    machine_at: Callable[[Pressure], None],
    begun: list[object],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    machine_at("yellow")
    monkeypatch.setattr(cli_run, "has_person", lambda: bool(options))
    outcome = call("run", tiny.config("short"), "--json", *options)
    assert outcome.err.strip() == SHORT
    assert len(begun) == 1


def test_a_machine_that_is_well_is_not_spoken_of(
    call: Callable[..., Outcome],
    tiny: Tiny,
    machine_at: Callable[[Pressure], None],
    begun: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine_at("green")
    monkeypatch.setattr(cli_run, "has_person", lambda: True)
    assert call("run", tiny.config("short"), "--json").err == ""
    assert len(begun) == 1
