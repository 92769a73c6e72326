"""Runs without a dashboard call too: once, and no address shows anywhere; a test message first."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.cli.program import run
from tests.loopback import SECRET, Service, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.cli.conftest import Tiny
    from tests.cli.program import Outcome

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def service() -> Generator[Service]:
    with serving() as service:
        yield service


def settings(home: Path, *lines: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "settings.yaml").write_text("\n".join(lines), encoding="utf-8")


def test_a_run_in_plain_lines_calls_once_that_it_finished(
    tiny: Tiny, home: Path, service: Service
) -> None:
    settings(home, "calls:", f"  - {service.url}", f"  - {SECRET}", f"  - nfty://{SECRET}")
    outcome = run("run", tiny.config("calls"), "--plain", home=home)
    assert outcome.code == 0, outcome.err
    (got,) = service.got
    (folder,) = (home / "runs").iterdir()
    assert got["title"].endswith(" finished")
    assert got["message"].startswith("Completed at 6 after ")
    assert got["message"].endswith(f"Try it: lora-tui chat {folder.name}")
    log = (folder / "log.txt").read_text(encoding="utf-8")
    assert "Told json://…: " in log
    # What is wrong in the file is said, and stops nothing.
    assert "Warning: settings.yaml, line 3: calls: this is no address" in outcome.out
    said = outcome.out + log
    assert "nfty://… is not called: Apprise knows no such address (settings.yaml, line 4)" in said
    assert SECRET not in outcome.out + outcome.err
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_a_test_message_says_what_came_of_each(
    call: Callable[..., Outcome], home: Path, service: Service
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings(home, "calls:", f"  - {service.url}", f"  - xml://127.0.0.1:{port}/{SECRET}")
    outcome = call("calls", "--test")
    assert outcome.code == 1
    assert outcome.out.splitlines() == [
        "json://…  was told",
        "xml://…  could not be reached: the connection was refused",
    ]
    assert [got["title"] for got in service.got] == ["lora-tui: a test"]
    assert SECRET not in outcome.out + outcome.err


def test_without_test_nobody_is_called(
    call: Callable[..., Outcome], home: Path, service: Service
) -> None:
    settings(home, f"calls: [{service.url}]", "call_on: [finished, failed]")
    outcome = call("calls")
    assert (outcome.code, outcome.out) == (0, "json://…  is set\n")
    assert "They are called about: finished, failed." in outcome.err
    assert service.got == []


def test_where_no_address_is_set_it_is_said_where_it_goes(
    call: Callable[..., Outcome], home: Path
) -> None:
    outcome = call("calls", "--test")
    assert outcome.code == 0
    assert f"put calls: [ntfy://…] into {home / 'settings.yaml'}" in outcome.err
