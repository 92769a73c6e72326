"""Who may see a run in a browser, and what is said where it cannot be served."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import psutil
import pytest

from engine import events as ev
from engine.journal import Journal
from tests.cli.program import finish, spawn
from tests.tui.scripted import started
from tui.cli_serve import address, bound
from tui.server import Door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.cli.program import Outcome

TOKEN = "not-guessed"
PATIENCE = 30
HERE = "127.0.0.1:8000"


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (HERE, None, None),
        ("localhost:8000", "http://localhost:8000", None),
        ("[::1]:8000", "http://[::1]:8000", None),
        # A page elsewhere that asks through the browser of whoever looks at it.
        (HERE, "https://elsewhere.example", 403),
        (HERE, "http://127.0.0.1:9000", 403),
        (HERE, "null", 403),
        # A name of somebody else's that leads here.
        ("elsewhere.example:8000", "http://elsewhere.example:8000", 403),
        ("[", None, 403),
        ("", None, 403),
    ],
)
def test_without_a_token_only_this_machine_comes_in(
    host: str, origin: str | None, status: int | None
) -> None:
    refusal = Door().refusal(host, origin, None)
    assert (refusal and refusal[0]) == status


@pytest.mark.parametrize(
    ("given", "status"),
    [(TOKEN, None), (None, 401), ("", 401), ("wrong", 403), (TOKEN + "x", 403), ("\udcff", 403)],
)
def test_with_a_token_nobody_comes_in_without_it(given: str | None, status: int | None) -> None:
    door = Door(TOKEN)
    refusal = door.refusal("mac.local:8000", None, given)
    assert (refusal and refusal[0]) == status
    from_elsewhere = door.refusal("mac.local:8000", "http://elsewhere.example", TOKEN)
    assert from_elsewhere is not None


def test_the_address_can_be_opened_as_it_is_printed() -> None:
    assert address("127.0.0.1", 8000, "") == "http://127.0.0.1:8000/"
    assert address("fe80::1", 80, "abc") == "http://[fe80::1]:80/?token=abc"
    assert address("0.0.0.0", 80, "abc") == f"http://{socket.gethostname()}:80/?token=abc"


@pytest.fixture
def past(home: Path) -> Path:
    """A run that was interrupted."""
    folder = home / "runs" / "past"
    folder.mkdir(parents=True)
    journal = Journal(folder / "events.jsonl")
    journal.append(started(time.time(), "past", 100))
    journal.append(
        ev.Evaluated(
            time=time.time(), iteration=0, val_loss=1.294, best=True, seconds=1.0, tokens=10
        )
    )
    journal.close()
    return folder


def test_what_keeps_it_from_being_served_is_said(
    past: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bound("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        refused = call("serve", "--port", str(port))
    assert refused.code == 1
    assert f"Port {port} is in use by another program." in refused.err
    assert f"--port {port + 1}" in refused.err
    elsewhere = call("serve", "past", "--host", "192.0.2.1")
    assert elsewhere.code == 2
    assert "192.0.2.1 is not an address of this machine" in elsewhere.err
    assert call("serve", "nobody").code == 2
    monkeypatch.delitem(sys.modules, "tui.server")
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    without = call("serve", str(past))
    assert without.code == 1
    assert "Get it with: uv pip install textual-serve" in without.err


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    # Cookies of an address that is a number are left out otherwise.
    jar = aiohttp.CookieJar(unsafe=True)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=timeout) as session:
        yield session


@pytest.mark.asyncio
async def test_page_files_and_socket_ask_for_the_token(
    past: Path, home: Path, session: aiohttp.ClientSession
) -> None:
    server = spawn("serve", past.name, "--host", "127.0.0.1", "--port", "0", home=home)
    assert server.stdout is not None
    printed = server.stdout.readline().strip()
    try:
        base, token = re.fullmatch(r"(.+/)\?token=(.{32})", printed).groups()  # pyright: ignore
        script, feed = f"{base}static/js/textual.js", f"{base}ws"
        for path in (base, script, feed, f"{base}download/x", f"{base}nothing"):
            for query, status in (("", 401), ("?token=wrong", 403)):
                async with session.get(f"{path}{query}") as answer:
                    assert answer.status == status, path
        async with session.get(printed) as answer:
            page = await answer.text()
            assert answer.status == 200
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        # Nothing comes from elsewhere, and the token is only in the address.
        assert "://" not in page
        assert token not in page
        async with session.get(script) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(feed, origin="http://elsewhere.example")
        async with session.ws_connect(f"{feed}?width=120&height=40", origin=base[:-1]) as tab:
            shown = b""
            while "interrupted" not in shown.decode(errors="replace"):
                shown += await tab.receive_bytes()
            shows = psutil.Process(server.pid).children()
            assert "--read-only" in shows[0].cmdline()
            # Whoever serves is gone without a word: so is what it began.
            server.kill()
            gone = await asyncio.to_thread(psutil.wait_procs, shows, PATIENCE)
            assert gone[1] == []
    finally:
        server.send_signal(signal.SIGKILL)
        finish(server)
