"""The dashboard in a browser: textual-serve's server, with a door, and nothing from elsewhere."""

from __future__ import annotations

import asyncio
import hmac
import html
import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web
from textual_serve.server import Server, to_int

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from textual_serve.app_service import AppService

    from engine.runs import RunDirectory

PAGE = Path(__file__).with_name("served.html")
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
UNKNOWN, FORBIDDEN = 401, 403
MOST_TABS = 4
"""Each is a process of its own, beside a run that needs the memory."""
END_SECONDS = 3.0
"""How long a tab's process may take to end before it is killed."""
FONT_SIZE = 16
COOKIE_SECONDS = 7 * 24 * 3600
HEADERS = {
    "Cache-Control": "no-store",
    # Nothing from elsewhere, and inside nobody's frame, where keys could be tricked out of people.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Door:
    """Who may come in; without a token only this machine, by its own name."""

    token: str = ""

    def refusal(self, host: str, origin: str | None, given: str | None) -> tuple[int, str] | None:
        """Say why a request is turned away, as an HTTP status and words; None lets it in.

        Args:
            host: what the request calls this server.
            origin: the page that asks, where a browser says so.
            given: the token that came with it.
        """
        # A page from elsewhere can reach this server through the browser of whoever visits it.
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return FORBIDDEN, "Another page asked for this. Open the address itself."
        if not self.token:
            if _name_in(host) in LOOPBACK_NAMES:
                return None
            return FORBIDDEN, "Only for this machine. For others: lora-tui serve --host ADDRESS"
        if not given:
            return UNKNOWN, "The token is missing. Open the address that lora-tui serve printed."
        if not hmac.compare_digest(given.encode(errors="replace"), self.token.encode()):
            return FORBIDDEN, "This is not the token that lora-tui serve printed."
        return None


class RunServer(Server):
    """Serves the attached dashboard of one run, a process of its own to each tab.

    Args:
        run: what is shown.
        door: who may see it.
        is_steerable: whether keys in the browser steer the run.
    """

    def __init__(self, run: RunDirectory, door: Door, *, is_steerable: bool) -> None:
        command = _command(run, is_steerable=is_steerable)
        super().__init__(command, title=run.name)  # pyright: ignore[reportUnknownMemberType]
        self._door = door
        self._tabs: set[web.WebSocketResponse] = set()
        self._cookie = "lora-tui"

    def serve_on(self, listening: socket.socket) -> None:
        """Serve until a signal ends it, and every tab's process with it."""
        # Cookies are shared by all ports of a machine.
        self._cookie = f"lora-tui-{listening.getsockname()[1]}"
        web.run_app(
            self._make_app(),
            sock=listening,
            print=None,
            access_log=None,
            shutdown_timeout=2 * END_SECONDS,
        )

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._let_in)
        return app

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: the command has said it."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Close every tab, which ends its process."""
        del app
        for tab in tuple(self._tabs):
            await tab.close(code=WSCloseCode.GOING_AWAY)

    async def handle_index(self, request: web.Request) -> web.Response:
        """Give the page, which loads everything else from here."""
        page = Template(PAGE.read_text(encoding="utf-8")).substitute(
            title=html.escape(self.title),
            font_size=to_int(request.query.get("fontsize", ""), FONT_SIZE),
        )
        response = web.Response(text=page, content_type="text/html", headers=HEADERS)
        if self._door.token:
            # What the page loads, and its socket, have no token in their address.
            response.set_cookie(
                *(self._cookie, self._door.token),
                max_age=COOKIE_SECONDS,
                httponly=True,
                samesite="Strict",
            )
        return response

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Begin a tab, unless there are many already."""
        if len(self._tabs) >= MOST_TABS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_TABS} tabs are open. Close one first.")
        return await super().handle_websocket(request)

    @web.middleware
    async def _let_in(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.query.get("token") or request.cookies.get(self._cookie)
        refusal = self._door.refusal(request.host, request.headers.get("Origin"), given)
        if refusal is not None:
            status, words = refusal
            return web.Response(status=status, text=f"{words}\n", headers=HEADERS)
        return await handler(request)

    async def _process_messages(
        self, websocket: web.WebSocketResponse, app_service: AppService
    ) -> None:
        self._tabs.add(websocket)
        process: asyncio.subprocess.Process = app_service._process  # pyright: ignore
        closing = asyncio.create_task(_close_after(process, websocket))
        try:
            await super()._process_messages(websocket, app_service)
        finally:
            self._tabs.discard(websocket)
            closing.cancel()
            await _end(process, app_service)


async def _close_after(process: asyncio.subprocess.Process, tab: web.WebSocketResponse) -> None:
    """Let the page say so when its process is gone, however that ended."""
    await process.wait()
    await tab.close()


async def _end(process: asyncio.subprocess.Process, service: AppService) -> None:
    await service.send_meta({"type": "quit"})
    try:
        await asyncio.wait_for(process.wait(), END_SECONDS)
    except TimeoutError:
        # Such as one that waits for somebody to read what it draws.
        with suppress(ProcessLookupError):
            process.kill()


def _command(run: RunDirectory, *, is_steerable: bool) -> str:
    # Not from the working directory, where anything may be called tui.
    arguments = [sys.executable, "-P", "-m", "tui", "attach", str(run.path.resolve())]
    if not is_steerable:
        arguments.append("--read-only")
    # The shell makes way for it: what is waited for and killed is the program itself.
    return f"exec {shlex.join(arguments)}"


def _name_in(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
