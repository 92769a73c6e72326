"""The control socket: who may use it, what it answers, and that nothing said there does harm."""

from __future__ import annotations

import json
import os
import random
import select
import socket
import stat
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from engine import events as ev
from engine.control import ControlClient, ControlServer, parse_command, place, server
from engine.errors import RunError
from engine.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MESSAGES = 10_000
PATIENCE = 20.0


class Recorder:
    """Writes down what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: list[ev.Event] = []
        self.told = threading.Condition()

    def _note(self, what: str) -> None:
        with self.told:
            self.asked.append(what)
            self.told.notify_all()

    def pause(self) -> None:
        self._note("pause")

    def resume(self) -> None:
        self._note("resume")

    def checkpoint(self) -> None:
        self._note("checkpoint")

    def evaluate(self) -> None:
        self._note("evaluate")

    def sample(self) -> None:
        self._note("sample")

    def set_policy(self, policy: ev.Policy) -> None:
        self._note(f"policy {policy}")

    def stop(self) -> None:
        self._note("stop")

    def unwritten(self) -> list[ev.Event]:
        return list(self.waiting)


class Scene:
    """A served run, its journal, and the thread that serves."""

    def __init__(self, folder: Path) -> None:
        self.run = Recorder()
        self.path = folder / "control.sock"
        self.journal_file = folder / "events.jsonl"
        self.journal = Journal(self.journal_file)
        self.server = ControlServer(self.path, self.journal_file, self.run)
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()

    def say(self, count: int, words: str = "something") -> None:
        for number in range(count):
            self.journal.append(ev.Warned(time=float(number), message=words))

    def close(self) -> None:
        if self.thread.is_alive():
            self.server.close()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.journal.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def read_lines(client: ControlClient, count: int) -> list[dict[str, Any]]:
    lines: list[bytes] = []
    end = time.monotonic() + PATIENCE
    while len(lines) < count and time.monotonic() < end:
        lines += client.read(1.0)
    return [json.loads(line) for line in lines]


def read_for_ever(client: ControlClient) -> None:
    while True:
        client.read(1.0)


def raw(scene: Scene) -> socket.socket:
    connection = place.connect(scene.path, PATIENCE)
    connection.settimeout(PATIENCE)
    return connection


def test_it_is_the_owners_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = scene.path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(RunError, match="another user"):
        ControlClient(scene.path)
    # The other end looks too, and hangs up.
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE)
    connection.connect(str(scene.path))
    assert connection.recv(100) == b""
    connection.close()


def test_every_command_arrives(scene: Scene) -> None:
    with ControlClient(scene.path) as client:
        for verb in ("pause", "resume", "checkpoint", "evaluate", "sample", "stop", "hello"):
            assert client.ask(verb, id=7) == {"reply": verb, "id": 7}
        assert client.ask("policy", policy="watch") == {"reply": "policy"}
        with pytest.raises(RunError, match="'policy' is none of watch, protect, abort"):
            client.ask("policy", policy="panic")
    assert scene.run.asked == [
        *("pause", "resume", "checkpoint", "evaluate", "sample", "stop"),
        "policy watch",
    ]


def test_events_come_from_any_line_on(scene: Scene) -> None:
    scene.say(20)
    with ControlClient(scene.path) as early, ControlClient(scene.path) as late:
        assert early.ask("subscribe", **{"from": 15}) == {"reply": "subscribe", "from": 15}
        assert late.ask("subscribe", **{"from": -1}) == {"reply": "subscribe", "from": 20}
        scene.say(3, "new")
        assert [line["time"] for line in read_lines(early, 8)] == [15, 16, 17, 18, 19, 0, 1, 2]
        assert [line["message"] for line in read_lines(late, 3)] == ["new"] * 3


def test_what_a_full_disk_holds_back_is_told_once(scene: Scene) -> None:
    scene.say(2)
    with ControlClient(scene.path) as client:
        client.ask("subscribe")
        read_lines(client, 2)
        held: list[ev.Event] = [
            ev.Warned(time=9.0, message=f"held {number}") for number in range(3)
        ]
        scene.run.waiting = held[:2]
        assert [line["message"] for line in read_lines(client, 2)] == ["held 0", "held 1"]
        scene.run.waiting = []
        for event in held:
            scene.journal.append(event)
        assert [line["message"] for line in read_lines(client, 1)] == ["held 2"]


def test_last_words_reach_readers_before_it_closes(scene: Scene) -> None:
    with ControlClient(scene.path) as client:
        client.ask("subscribe")
        scene.say(50, "last")
        scene.close()
        assert len(read_lines(client, 50)) == 50
        with pytest.raises(RunError, match="does not answer"):
            client.read(PATIENCE)
    assert not scene.path.exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"pause", "no line of JSON"),
        (b"[" * 3000, "no line of JSON"),
        (b'"pause"', "a command is an object"),
        (b"{}", "'do' is none of"),
        (b'{"do": ["pause"]}', "'do' is none of"),
        (b'{"do": "pause", "now": 1}', "pause knows no 'now'"),
        (b'{"do": "pause", "from": 1}', "pause knows no 'from'"),
        (b'{"do": "pause", "id": [1]}', "'id' is not"),
        (b'{"do": "subscribe", "from": -2}', "'from' is not"),
        (b'{"do": "subscribe", "from": true}', "'from' is not"),
        (b'{"do": "subscribe", "from": 1e9}', "'from' is not"),
        (b'{"do": "policy"}', "'policy' is none of"),
        (b"\xff\xfe", "no line of JSON"),
    ],
)
def test_what_is_no_command_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("[", r"\[")):
        parse_command(line)


def test_an_endless_line_ends_the_connection(scene: Scene) -> None:
    with raw(scene) as connection:
        connection.sendall(b'{"do": "pause"' + b" " * 10_000)
        answer = b""
        while chunk := connection.recv(1000):
            answer += chunk
    assert b"at most 4,096 bytes" in answer
    assert scene.run.asked == []


def test_half_a_command_does_nothing(scene: Scene) -> None:
    with raw(scene) as connection:
        connection.sendall(b'{"do": "stop"}')
    with ControlClient(scene.path) as client:
        client.ask("hello")
    assert scene.run.asked == []


def spoilt(rng: random.Random) -> bytes:
    """A message that is nearly one, or nothing like one."""
    verb = rng.choice(["pause", "resume", "checkpoint", "evaluate", "sample", "stop", "policy"])
    whole = json.dumps({"do": verb}).encode()
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.randrange(1, 200)).replace(b"\n", b"")
        case 1:
            return whole[: rng.randrange(1, len(whole))]
        case 2:
            at = rng.randrange(len(whole))
            # Bytes that are in no JSON outside of texts.
            return whole[:at] + bytes([rng.randrange(128, 256)]) + whole[at:]
        case 3:
            return json.dumps({"do": verb, rng.choice(["x", "Do", "policy ", ""]): 1}).encode()
        case 4:
            return json.dumps([{"do": verb}] * rng.randrange(3)).encode()
        case _:
            return json.dumps({"do": verb.upper(), "id": rng.random()}).encode()


def test_ten_thousand_bad_messages_have_no_effect(scene: Scene) -> None:
    rng = random.Random(8)
    sent = 0
    while sent < MESSAGES:
        with raw(scene) as connection:
            count = min(500, MESSAGES - sent)
            connection.sendall(b"".join(spoilt(rng) + b"\n" for _ in range(count)))
            sent += count
            answers = b""
            while answers.count(b"\n") < count:
                answers += connection.recv(65_536)
            assert all(line.startswith(b'{"error"') for line in answers.splitlines())
            if rng.random() < 0.5:
                connection.sendall(spoilt(rng))
    assert scene.run.asked == []
    with ControlClient(scene.path) as client:
        assert client.ask("pause") == {"reply": "pause"}


def test_a_reader_that_takes_nothing_is_dropped_and_holds_nobody_up(tmp_path: Path) -> None:
    clock = [0.0]
    run, journal_file = Recorder(), tmp_path / "events.jsonl"
    with journal_file.open("wb") as file:
        file.write(b'{"event": "warning", "time": 1.0, "message": "a longer line"}\n' * 50_000)
    served = ControlServer(tmp_path / "control.sock", journal_file, run, lambda: clock[0])
    thread = threading.Thread(target=served.serve, daemon=True)
    thread.start()
    with (
        ControlClient(tmp_path / "control.sock") as slow,
        ControlClient(tmp_path / "control.sock") as quick,
    ):
        slow.ask("subscribe")
        quick.ask("subscribe")
        assert len(read_lines(quick, 50_000)) == 50_000
        clock[0] += server.STUCK_SECONDS + 1
        quick.ask("pause")
        # What the socket held already can still be read.
        with pytest.raises(RunError, match="does not answer"):
            read_for_ever(slow)
        quick.ask("resume")
    served.close()
    thread.join(PATIENCE)
    assert run.asked == ["pause", "resume"]


def test_closing_what_is_over_touches_no_other_file(tmp_path: Path) -> None:
    served = ControlServer(tmp_path / "control.sock", tmp_path / "events.jsonl", Recorder())
    served.close()
    served.serve()
    # Files that are opened now get the numbers of those that were closed.
    pipes = [os.pipe() for _ in range(8)]
    served.close()
    try:
        assert select.select([read for read, _ in pipes], [], [], 0)[0] == []
    finally:
        for number in (end for pipe in pipes for end in pipe):
            os.close(number)


def test_a_path_too_long_for_a_socket_leads_to_one(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 10)
    folder.mkdir(parents=True)
    scene = Scene(folder)
    target = scene.path.readlink()
    assert stat.S_IMODE(target.parent.stat().st_mode) == 0o700
    with ControlClient(scene.path) as client:
        client.ask("checkpoint")
    scene.close()
    assert scene.run.asked == ["checkpoint"]
    assert not target.parent.exists()
    assert not scene.path.is_symlink()


def test_a_dead_process_socket_gives_way(tmp_path: Path) -> None:
    place.listen(tmp_path / "control.sock").close()
    with pytest.raises(RunError, match="cannot be reached"):
        ControlClient(tmp_path / "control.sock")
    scene = Scene(tmp_path)
    with ControlClient(scene.path) as client:
        client.ask("sample")
    scene.close()
    assert scene.run.asked == ["sample"]
