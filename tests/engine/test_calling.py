"""Messages reach a service, failures are said without the address, and nothing waits for them."""

from __future__ import annotations

import dataclasses
import logging
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine.callbacks import Callbacks
from engine.calling import RETRY_SECONDS, Caller, Complaint
from engine.callworthy import CALL_KINDS, Callworthy
from engine.channels import (
    AppriseChannel,
    CannotCallError,
    MacNotification,
    is_address,
    masked,
)
from engine.session import Session
from tests.engine.samples import emptied
from tests.engine.workshop import PATIENCE, finish
from tests.loopback import SECRET, Service, serving

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.engine.workshop import Workshop

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def service() -> Generator[Service]:
    with serving() as service:
        yield service


def refused_url() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"json://person:{SECRET}@127.0.0.1:{port}/{SECRET}/"


def opened(url: str, seconds: float = 8.0) -> AppriseChannel:
    channel = AppriseChannel(url, seconds=seconds)
    channel.open()
    return channel


def why_not(channel: AppriseChannel) -> str:
    with pytest.raises(CannotCallError) as error:
        channel.send("title", "text")
    return str(error.value)


def test_a_message_reaches_the_service(service: Service) -> None:
    opened(service.url).send("lora-tui: it finished", "Completed at 6.\nTry it: lora-tui chat it")
    (got,) = service.got
    assert got["title"] == "lora-tui: it finished"
    assert got["message"] == "Completed at 6.\nTry it: lora-tui chat it"


def test_why_it_did_not_go_through_is_said_without_the_address(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(500) as broken:
        assert why_not(opened(broken.url)) == "the service answered 500"
    assert why_not(opened(refused_url())) == "the connection was refused"
    with serving() as slow:
        slow.may_answer.clear()
        assert why_not(opened(f"{slow.url}?rto=0.2")) == "timed out"
    # Whatever reads the log: nothing of Apprise's own words gets there.
    assert not [r for r in caplog.records if r.name.startswith("apprise")]


def test_the_first_use_of_apprise_is_as_quiet_as_the_others() -> None:
    lines = (
        "import logging",
        "from engine.channels import AppriseChannel",
        "logging.basicConfig(level=logging.DEBUG)",
        f"AppriseChannel('json://{SECRET}@127.0.0.1/').open()",
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert ran.stdout + ran.stderr == ""


def test_one_that_never_answers_is_left_behind() -> None:
    with serving() as slow:
        slow.may_answer.clear()
        channel = opened(f"{slow.url}?rto=60", seconds=0.2)
        assert why_not(channel) == "no answer within 0 s"
        assert why_not(channel) == "the message before is still on its way"


def test_an_address_that_apprise_does_not_know_is_named_by_its_line() -> None:
    channel = AppriseChannel(f"nfty://{SECRET}", place="settings.yaml, line 3")
    with pytest.raises(CannotCallError) as error:
        channel.open()
    assert str(error.value) == "Apprise knows no such address (settings.yaml, line 3)"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"json://u:{SECRET}@host:80/{SECRET}?x={SECRET}", "json://…"),
        (f"Discord://{SECRET}/{SECRET}", "discord://…"),
        (f"{SECRET}", "…"),
        (f"{SECRET * 3}://host", "…"),
    ],
)
def test_only_the_scheme_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert is_address(url) == (shown != "…")


class Channel:
    """A channel that fails as often as it is told to."""

    name = "json://…"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.sent: list[tuple[str, str]] = []
        self.tries = 0

    def open(self) -> None:
        pass

    def send(self, title: str, text: str) -> None:
        self.tries += 1
        if self.tries <= self.failures:
            raise CannotCallError("timed out")
        self.sent.append((title, text))


class Desk:
    """A caller with a clock of its own."""

    def __init__(self, folder: Path, failures: int = 0, kinds: Any = CALL_KINDS) -> None:
        self.now = 0.0
        self.channel = Channel(failures)
        self.log = folder / "log.txt"
        self.waited: list[float] = []
        self.caller = Caller(
            self.channel,
            Callworthy("the-run"),
            kinds,
            "run",
            self.log,
            clock=lambda: self.now,
            wait=self.waited.append,
        )

    def tell(self, kind: type[ev.Event], **values: Any) -> None:
        self.caller.on_event(dataclasses.replace(emptied(kind), **{"time": self.now, **values}))

    def skip(self) -> None:
        self.tell(ev.Guard, action="skip_batch", why="no number", iteration=7)


def test_a_message_that_failed_is_tried_again_and_said_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, failures=2)
    desk.skip()
    assert desk.caller.take_warnings() == [
        "Could not reach json://… about “left out a batch after 7”: timed out. Training goes on."
    ]
    desk.tell(ev.Host)
    assert desk.channel.tries == 1
    for seconds in RETRY_SECONDS:
        desk.now += seconds
        desk.tell(ev.Host)
        desk.tell(ev.Host)
    assert [title for title, _ in desk.channel.sent] == ["lora-tui: run left out a batch after 7"]
    assert desk.caller.take_warnings() == []
    lines = desk.log.read_text(encoding="utf-8").splitlines()
    assert [line.partition("calls: ")[2] for line in lines] == [
        *["Could not reach json://… about “left out a batch after 7”: timed out."] * 2,
        "Told json://…: run left out a batch after 7",
    ]


def test_after_some_tries_a_message_is_given_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path, failures=100)
    desk.skip()
    for _ in range(10):
        desk.now += 1000
        desk.tell(ev.Host)
    assert desk.channel.tries == 1 + len(RETRY_SECONDS)


def test_at_the_end_the_newest_goes_first_and_is_tried_twice(tmp_path: Path) -> None:
    desk = Desk(tmp_path, failures=2)
    desk.skip()
    desk.now += 1
    desk.tell(ev.Ended, status="completed", iteration=9)
    titles = [title for title, _ in desk.channel.sent]
    assert titles == ["lora-tui: run finished", "lora-tui: run left out a batch after 7"]
    assert len(desk.waited) == 1


def test_only_the_kinds_that_are_wanted_are_sent(tmp_path: Path) -> None:
    desk = Desk(tmp_path, kinds={"finished"})
    desk.skip()
    desk.tell(ev.Ended, status="completed", iteration=9)
    assert [title for title, _ in desk.channel.sent] == ["lora-tui: run finished"]


def test_what_ends_at_once_rings_nobody_who_still_looks(tmp_path: Path) -> None:
    for seconds, sent in ((59.0, 0), (61.0, 1)):
        channel = Channel()
        caller = Caller(
            channel, Callworthy("r"), CALL_KINDS, "run", tmp_path / "log.txt", quiet_seconds=60.0
        )
        caller.on_event(dataclasses.replace(emptied(ev.Progress), time=0.0))
        caller.on_event(dataclasses.replace(emptied(ev.Started), time=seconds))
        ended = dataclasses.replace(emptied(ev.Ended), time=seconds)
        caller.on_event(dataclasses.replace(ended, status="completed"))  # pyright: ignore[reportCallIssue]
        assert len(channel.sent) == sent


def test_what_is_wrong_with_the_calls_is_said_once() -> None:
    callbacks = Callbacks([Complaint(["settings.yaml, line 3: no."])], 10)
    assert callbacks.deliver(emptied(ev.Progress)) == ["settings.yaml, line 3: no."]
    assert callbacks.deliver(emptied(ev.Progress)) == []


def test_a_mac_gets_the_words_as_arguments() -> None:
    asked: list[tuple[list[str], dict[str, Any]]] = []
    channel = MacNotification(lambda command, **rest: asked.append((command, rest)))
    nasty = '" & (do shell script "touch /tmp/x") & "'
    channel.open()
    channel.send(f"lora-tui: {nasty} finished", f"-e {nasty}")
    ((command, rest),) = asked
    assert command[0] == "/usr/bin/osascript"
    assert command[-2:] == [f"lora-tui: {nasty} finished", f"-e {nasty}"]
    assert nasty not in " ".join(command[:-2])
    assert rest["timeout"] <= 10


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError("osascript"), subprocess.TimeoutExpired("osascript", 1)],
)
def test_a_mac_that_does_not_show_it_is_no_disaster(error: Exception) -> None:
    def fail(*_command: Any, **_rest: Any) -> None:
        raise error

    with pytest.raises(CannotCallError):
        MacNotification(fail).send("title", "text")


def caller_for(url: str, run: Session) -> Caller:
    return Caller(AppriseChannel(url), Callworthy("run"), CALL_KINDS, "run", run.directory.log_file)


def called(workshop: Workshop, url: str, **changes: Any) -> Any:
    made = workshop.session(**changes)
    run = Session(made.config, made.directory, callbacks=[caller_for(url, made)])
    return finish(run)


def leaks(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_run_tells_its_end_and_a_resumed_one_only_its_own(
    workshop: Workshop, service: Service
) -> None:
    from engine.journal import read_history
    from engine.resume import Resume

    run = called(workshop, service.url)
    assert [got["title"] for got in service.got] == ["lora-tui: run finished"]
    assert "Told json://…: run finished" in run.directory.log_file.read_text(encoding="utf-8")
    past = read_history(run.directory.journal_file, 100)
    assert any(isinstance(event, ev.Ended) for event in past)
    config = run.config.model_copy(update={"iters": 8})
    resume = Resume(run.directory.adapters)
    again = Session(config, run.directory, resume, past, [caller_for(service.url, run.session)])
    again.start()
    assert again.join(PATIENCE)
    titles = [got["title"] for got in service.got]
    assert titles == ["lora-tui: run finished"] * 2
    assert leaks(run.directory.path) == []


@pytest.mark.parametrize("kind", ["refused", "broken", "hanging"])
def test_a_service_that_fails_neither_ends_nor_holds_a_run(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("engine.calling.LAST_RETRY_SECONDS", 0.05)
    with serving(500 if kind == "broken" else 200) as service:
        if kind == "hanging":
            service.may_answer.clear()
        url = refused_url() if kind == "refused" else f"{service.url}?rto=0.3"
        began = time.monotonic()
        run = called(workshop, url)
        assert time.monotonic() - began < PATIENCE / 2
    assert run.ended.status == "completed"
    assert len(run.of(ev.Step)) == 6
    log = run.directory.log_file.read_text(encoding="utf-8")
    assert "Could not reach json://… about “finished”: " in log
    assert leaks(run.directory.path) == []
    assert SECRET not in "".join(map(ev.to_json, run.events))
