"""Makes a model of a checkpoint, in a process of its own, and says over the screen how it goes."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.checkpoint import BOX

if TYPE_CHECKING:
    from asyncio import StreamReader
    from asyncio.subprocess import Process
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType

_STOP_SECONDS = 10.0


class FuseScreen(ModalScreen[None]):
    """Shows what ``lora-tui fuse`` says; leaving stops it, and nothing half-written stays."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", show=False)]
    DEFAULT_CSS = BOX.format(name="FuseScreen")

    def __init__(self, run: str, iteration: int, command: Sequence[str] = ()) -> None:
        """Prepare to fuse a run's checkpoint.

        Args:
            run: the run's folder.
            iteration: the checkpoint's.
            command: what fuses and says so; the program itself by default.
        """
        super().__init__()
        self._command = command or (sys.executable, "-m", "tui", "fuse", f"{run}@{iteration}")
        self._title = f"fuse {iteration:,}"
        self._process: Process | None = None
        self._said: list[str] = []

    def compose(self) -> ComposeResult:
        """Show a box to speak in."""
        with Vertical(classes="box") as box:
            box.border_title = self._title
            box.border_subtitle = "esc stops it"
            yield Static("beginning…", markup=False)

    def on_mount(self) -> None:
        """Begin."""
        self.run_worker(self._fuse, exit_on_error=False)

    async def on_unmount(self) -> None:
        """Leave no process behind."""
        await self._end()

    async def action_close(self) -> None:
        """Stop it if it still goes on, and go back."""
        await self._end()
        self.dismiss(None)

    async def _fuse(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE
        )
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        await asyncio.gather(self._listen(out), self._listen(err))
        await self._process.wait()
        self.query_one(Vertical).border_subtitle = "esc closes"

    async def _listen(self, stream: StreamReader) -> None:
        """Show every line; of a line that is written over, what stands there last."""
        while raw := await stream.readline():
            text = raw.decode(errors="replace").rstrip("\n").rpartition("\r")[2].rstrip()
            if text:
                self._said.append(text)
                self.query_one(Static).update("\n".join(self._said[-12:]))

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        for number in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
                return
