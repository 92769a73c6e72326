"""Drives a real browser without a window, by its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

PROGRAM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), ""
)
NEEDS_BROWSER = "needs chromium"
LOOK_SECONDS = 0.05
# The page keeps its terminal to itself: what it makes of it is caught as it is made.
CATCH = """
Object.defineProperty(Object.prototype, "fitAddon", {
  configurable: true,
  set(addon) {
    window.shown = this.terminal;
    Object.defineProperty(this, "fitAddon", {value: addon, writable: true});
  },
});
"""
READ = """
(() => {
  const buffer = window.shown && window.shown.buffer.active;
  if (!buffer) return document.body ? document.body.innerText : "";
  const rows = [];
  for (let row = 0; row < buffer.length; row++) rows.push(buffer.getLine(row).translateToString());
  return rows.join("\\n");
})()
"""


class Tab:
    """A page in the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self._target = ""
        self.requested: list[str] = []
        """Every address that the page loaded something from."""

    async def open(self, address: str) -> None:
        """Load a page in a new tab."""
        self.requested.clear()
        made = await self._do("Target.createTarget", url="about:blank")
        self._target = made["targetId"]
        attached = await self._do("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        await self._do("Network.enable")
        await self._do("Page.enable")
        await self._do("Page.addScriptToEvaluateOnNewDocument", source=CATCH)
        await self._do("Page.navigate", url=address)

    async def text(self) -> str:
        """Read what the terminal on the page shows."""
        return (await self._do("Runtime.evaluate", expression=READ))["result"].get("value", "")

    async def evaluate(self, expression: str) -> Any:
        """Evaluate JavaScript in the page."""
        return (await self._do("Runtime.evaluate", expression=expression))["result"].get("value")

    async def wait_for(self, text: str, seconds: float) -> str:
        """Wait until the terminal shows a text; return all that it shows then."""
        end = time.monotonic() + seconds
        while text not in (shown := await self.text()):
            assert time.monotonic() < end, f"{text!r} is not shown within {seconds} s:\n{shown}"
            await asyncio.sleep(LOOK_SECONDS)
        return shown

    async def press(self, key: str) -> None:
        """Press a key that writes a character."""
        for kind in ("keyDown", "keyUp"):
            held = {"text": key} if kind == "keyDown" else {}
            code = "Space" if key == " " else f"Key{key.upper()}"
            number = ord(key.upper())
            await self._do(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=code,
                windowsVirtualKeyCode=number,
                **held,
            )

    async def close(self) -> None:
        """Close the tab."""
        self._session = None
        await self._do("Target.closeTarget", targetId=self._target)

    async def _do(self, method: str, **values: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": values}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        while True:
            answer = await self._socket.receive_json()
            if answer.get("method") == "Network.requestWillBeSent":
                self.requested.append(answer["params"]["request"]["url"])
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]


@asynccontextmanager
async def browser(folder: Path) -> AsyncGenerator[Tab]:
    """Give a tab of a browser that keeps everything in a folder."""
    told = folder / "profile" / "DevToolsActivePort"
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu"),
                *(
                    "--disable-dev-shm-usage",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--window-size=1200,900",
                ),
                *("--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        # The second line is the path; without it the file is still being written.
        while len(lines := told.read_text().splitlines() if told.exists() else []) < 2:
            assert process.poll() is None, (folder / "browser.log").read_text(errors="replace")
            await asyncio.sleep(LOOK_SECONDS)
        port, path = lines[:2]
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            yield Tab(socket)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
