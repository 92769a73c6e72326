"""Serves a run's control socket from one thread that nothing else waits for."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from engine.control import place
from engine.control.feed import Feed
from engine.control.words import MOST_BYTES, Command, parse_command, refusal, reply_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine.events import Event, Policy

LOOK_SECONDS = 0.1
"""How often somebody who subscribed is told what is new."""
STUCK_SECONDS = 10.0
"""After so long of taking nothing that waits for it, a reader is dropped."""
LAST_SECONDS = 1.0
"""How long readers may take for a run's last words."""
MOST_CLIENTS = 64
_RECEIVE_BYTES = 65_536
_ENOUGH_BYTES = 65_536
"""With so much waiting for a reader, no more is read for it."""
_MOST_ROUNDS = 8
_MOST_WAITING_BYTES = 1_048_576
"""Answers that nobody fetches; events never come to so much, a long line of them aside."""


class Steered(Protocol):
    """A run as the socket steers it: every call returns at once."""

    def pause(self) -> None:
        """Stand still after the step in flight."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...

    def checkpoint(self) -> None:
        """Save after the step in flight."""
        ...

    def evaluate(self) -> None:
        """Measure the validation rows after the step in flight."""
        ...

    def sample(self) -> None:
        """Answer the fixed prompts after the step in flight."""
        ...

    def set_policy(self, policy: Policy) -> None:
        """Choose what the guard does."""
        ...

    def stop(self) -> None:
        """Save and end."""
        ...

    def unwritten(self) -> Sequence[Event]:
        """Return the events that wait for room on the disk."""
        ...


class _Client:
    """Somebody who is connected."""

    def __init__(self, connection: socket.socket, now: float) -> None:
        self.connection = connection
        self.received = bytearray()
        self.waiting = bytearray()
        """What it was not able to take yet."""
        self.feed: Feed | None = None
        self.took_at = now
        """When it last took something, or nothing waited for it."""
        self.is_writable = True
        self.is_last = False
        """Whether it is closed once it took what waits."""


class ControlServer:
    """A run's socket: who makes one runs ``serve`` on a thread, and joins it after ``close``."""

    def __init__(
        self,
        path: Path,
        journal_file: Path,
        run: Steered,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Listen; nobody is answered before ``serve``.

        Raises:
            OSError: when there can be no socket.
        """
        self._path = path
        self._journal_file = journal_file
        self._run = run
        self._monotonic = monotonic
        self._listening = place.listen(path)
        self._clients: dict[socket.socket, _Client] = {}
        self._selector = selectors.DefaultSelector()
        # Not a pipe's numbers: they may be another file's once this is over.
        self._woken, self._waker = socket.socketpair()
        self._is_closing = False
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def close(self) -> None:
        """Tell readers what is left, and end ``serve``; may be called from any thread."""
        self._is_closing = True
        # It may be over already.
        with suppress(OSError):
            self._waker.send(b"\0")

    def serve(self) -> None:
        """Answer until ``close``."""
        try:
            while not self._is_closing:
                self._turn(self._patience())
            self._say_the_rest()
        finally:
            for client in list(self._clients.values()):
                self._drop(client)
            self._selector.close()
            self._listening.close()
            place.remove(self._path)
            self._woken.close()
            self._waker.close()

    def _patience(self) -> float | None:
        """How long to sleep when nobody says anything; for ever when nobody waits for news."""
        is_awaited = any(c.feed or c.waiting for c in self._clients.values())
        return LOOK_SECONDS if is_awaited else None

    def _turn(self, patience: float | None) -> None:
        for key, mask in self._selector.select(patience):
            if key.fileobj is self._listening:
                self._accept()
            elif key.fileobj is self._woken:
                # Only close wakes it, and that is looked at next.
                return
            elif client := self._clients.get(key.fileobj):  # pyright: ignore[reportArgumentType, reportCallIssue]
                if mask & selectors.EVENT_WRITE:
                    client.is_writable = True
                if mask & selectors.EVENT_READ:
                    self._receive(client)
        for client in list(self._clients.values()):
            self._attend(client)

    def _say_the_rest(self) -> None:
        for gone in (self._woken, self._listening):
            self._selector.unregister(gone)
        end = self._monotonic() + LAST_SECONDS
        while self._monotonic() < end:
            self._turn(0)
            if not any(client.waiting for client in self._clients.values()):
                return
            self._selector.select(LOOK_SECONDS)

    def _accept(self) -> None:
        with suppress(OSError):
            connection, _ = self._listening.accept()
            try:
                is_welcome = len(self._clients) < MOST_CLIENTS and place.is_same_user(connection)
            except OSError:
                is_welcome = False
            if not is_welcome:
                connection.close()
                return
            connection.setblocking(False)
            self._clients[connection] = _Client(connection, self._monotonic())
            self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, client: _Client) -> None:
        try:
            data = client.connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        if client.is_last:
            return
        client.received += data
        *lines, rest = bytes(client.received).split(b"\n")
        client.received[:] = rest
        for line in lines:
            client.waiting += self._answer(client, line)
        if len(rest) > MOST_BYTES:
            client.waiting += refusal(f"a command has at most {MOST_BYTES:,} bytes")
            client.received.clear()
            client.is_last = True

    def _answer(self, client: _Client, line: bytes) -> bytes:
        if len(line) > MOST_BYTES:
            return refusal(f"a command has at most {MOST_BYTES:,} bytes")
        try:
            command = parse_command(line)
        except ValueError as error:
            return refusal(str(error))
        if command.verb == "subscribe":
            return self._subscribe(client, command)
        self._carry_out(command)
        return reply_to(command)

    def _subscribe(self, client: _Client, command: Command) -> bytes:
        if client.feed is not None:
            client.feed.close()
            client.feed = None
        try:
            client.feed = Feed(self._journal_file, command.start, self._run.unwritten)
        except OSError as error:
            return refusal(f"the journal cannot be read: {error.strerror}")
        return reply_to(command, **{"from": client.feed.next_line})

    def _carry_out(self, command: Command) -> None:
        run = self._run
        match command.verb:
            case "pause":
                run.pause()
            case "resume":
                run.resume()
            case "checkpoint":
                run.checkpoint()
            case "evaluate":
                run.evaluate()
            case "sample":
                run.sample()
            case "stop":
                run.stop()
            case "policy" if command.policy is not None:
                run.set_policy(command.policy)
            case _:
                pass

    def _attend(self, client: _Client) -> None:
        """Give a client what there is for it, as far as it takes it now."""
        for _ in range(_MOST_ROUNDS):
            if not client.is_writable:
                break
            if client.feed is not None and len(client.waiting) < _ENOUGH_BYTES:
                try:
                    client.waiting += client.feed.read()
                except OSError:
                    self._drop(client)
                    return
            if not client.waiting:
                break
            try:
                sent = client.connection.send(client.waiting)
            except BlockingIOError:
                client.is_writable = False
                break
            except OSError:
                self._drop(client)
                return
            del client.waiting[:sent]
            client.took_at = self._monotonic()
        else:
            # Others have a turn first.
            client.is_writable = False
        self._judge(client)

    def _judge(self, client: _Client) -> None:
        """Drop who takes nothing, and listen for when a full one has room again."""
        if not client.waiting:
            client.took_at = self._monotonic()
            if client.is_last:
                self._drop(client)
                return
        elif (
            self._monotonic() - client.took_at > STUCK_SECONDS
            or len(client.waiting) > _MOST_WAITING_BYTES
        ):
            self._drop(client)
            return
        wanted = selectors.EVENT_READ | (0 if client.is_writable else selectors.EVENT_WRITE)
        if self._selector.get_key(client.connection).events != wanted:
            self._selector.modify(client.connection, wanted)

    def _drop(self, client: _Client) -> None:
        if self._clients.pop(client.connection, None) is None:
            return
        self._selector.unregister(client.connection)
        client.connection.close()
        if client.feed is not None:
            client.feed.close()
