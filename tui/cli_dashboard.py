"""Runs the dashboard over a run, and leaves in good order: run saved, screen restored."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rich.console import Console

from engine.errors import RunError
from engine.events import Probed, Started
from engine.mlx_thread import threads_ended
from engine.runs import home
from tui.background import start_in_background, watching_words
from tui.beacon import NO_PROGRESS
from tui.cli_records import RunRecords, fuse_screen
from tui.controls import Bench
from tui.farewell import NOTHING_MADE, is_complete, last_words, name_of
from tui.headless import train_on
from tui.plain import FAILED_EXIT
from tui.settings import load_settings
from tui.signals import ENDING_SIGNALS, SIGNAL_EXIT_BASE
from tui.terminal import StrayOutput, say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import FrameType

    from engine.events import Event, Policy
    from engine.session import Session
    from engine.use.talk import Talk
    from tui.app import LoraTuiApp

QUIET_JOIN_SECONDS = 0.5
"""How long the end may take without a word about it."""
JOIN_SECONDS = 30.0
"""How long the step in flight may take to end once the screen is gone."""
TALK_SECONDS = 2.0
"""How long a chat that was left may take to end."""
FOLDER_LOOK_SECONDS = 0.2

SWITCH_SECONDS = 0.0005
"""How long the trainer waits for the interpreter, at every layer, while the screen is drawn;
Python's own 5 ms would cost a step some percent."""


class SteeredRun:
    """A session as the screens know runs; what libraries say meanwhile goes to its log."""

    refusal = ""
    edition = 0

    def __init__(self, session: Session, stray: StrayOutput) -> None:
        self.session = session
        self._stray = stray
        self._log_mover: asyncio.Task[None] | None = None
        self.outlives_app = False
        """Whether the run goes on without a screen: its terminal was closed."""
        self.is_handed_over = False
        """Whether it was asked to end here and go on in the background."""

    @property
    def path(self) -> str:
        """The run's folder."""
        return str(self.session.directory.path)

    @property
    def events(self) -> Sequence[Event]:
        """Everything that happened so far."""
        return self.session.events

    @property
    def exit_code(self) -> int:
        """What the process should exit with once the run is over."""
        return self.session.exit_code

    @property
    def can_detach(self) -> bool:
        """Whether it can be handed over: not before there is something to go on from."""
        return self.session.has_begun

    def start(self) -> None:
        """Begin, with the first frame on the screen."""
        self._stray.hold()
        self._stray.take_prints()
        self.session.start()
        # Kept, because the loop itself only holds tasks weakly.
        self._log_mover = asyncio.create_task(self._move_log())

    def pause(self) -> None:
        """Stand still after the step in flight."""
        self.session.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self.session.resume()

    def checkpoint(self) -> None:
        """Save after the step in flight."""
        self.session.checkpoint()

    def evaluate(self) -> None:
        """Measure the validation loss after the step in flight."""
        self.session.evaluate()

    def sample(self) -> None:
        """Answer the fixed prompts after the step in flight."""
        self.session.sample()

    def set_policy(self, policy: Policy) -> None:
        """Choose what the guard does when memory runs short."""
        self.session.set_policy(policy)

    def stop(self, reason: str = "asked") -> None:
        """End and save. A reason such as ``signal SIGTERM`` also gives the exit code."""
        number = getattr(signal, reason.removeprefix("signal "), None)
        if isinstance(number, signal.Signals):
            self.session.stop(reason, "signal", SIGNAL_EXIT_BASE + number)
        else:
            self.session.stop("as asked" if reason == "asked" else reason)

    def hang_up(self) -> None:
        """Hear that the terminal is gone."""
        self.outlives_app = self.session.config.on_hangup == "continue"

    def detach(self) -> None:
        """Save and end here, to go on in the background."""
        self.is_handed_over = True
        self.session.stop("handed over to the background")

    def leave(self) -> None:
        """It is over when somebody goes home from it: nothing to do."""

    def open_talk(self, iteration: int | None) -> Talk:
        """Prepare to talk to a checkpoint; a run that stands still lends its own model.

        Raises:
            LoraTuiError: when there is none, or its base is gone.
        """
        from engine.use.talk import open_talk

        where = at(self.path, iteration)
        if not self.session.is_alive():
            return open_talk(where)
        known = (e for e in reversed(self.session.events) if isinstance(e, (Started, Probed)))
        newest = next(known, None)
        return open_talk(where, lend=self.session.lend, plan=newest.plan if newest else None)

    def is_alive(self) -> bool:
        """Whether the run still goes on."""
        return self.session.is_alive()

    def claim_log(self) -> None:
        """Move what libraries said to the run's log, if it has one."""
        if self.session.has_begun:
            # A folder that is gone or full: what was said is lost, the run's end is not.
            with suppress(OSError):
                self._stray.move_to(self.session.directory.log_file)

    async def _move_log(self) -> None:
        while not self.session.has_begun:
            await asyncio.sleep(FOLDER_LOOK_SECONDS)
        self.claim_log()


def at(path: str, iteration: int | None) -> str:
    """Name a run's checkpoint, the newest if None."""
    return path if iteration is None else f"{path}@{iteration}"


def show_run(session: Session) -> int:
    """Show the dashboard of a run that is not started yet; return the exit code."""
    from tui.app import LoraTuiApp

    with StrayOutput() as stray:
        run = SteeredRun(session, stray)
        app = LoraTuiApp(run, bench=Bench(RunRecords(), fuse_screen))
        return show_app(app, stray, lambda: run)


def show_app(
    app: LoraTuiApp, stray: StrayOutput, newest_run: Callable[[], SteeredRun | None]
) -> int:
    """Show an app until it is left, let its run save, and say what became of it.

    Args:
        app: not shown yet.
        stray: what keeps libraries' words off the screen.
        newest_run: the run that began last, None if none did.

    Returns:
        The exit code.
    """
    exit_code = FAILED_EXIT
    sys.setswitchinterval(SWITCH_SECONDS)
    app.use(load_settings(home()))
    app.error_console = Console(file=stray.screen, markup=False, highlight=False)
    try:
        app.run()
        exit_code = app.return_code or 0
    finally:
        if stray.screen.isatty():
            # Whatever ended the app, and however far it got in doing so itself.
            stray.screen.write(NO_PROGRESS)
            stray.screen.flush()
        run = newest_run()
        if run and run.outlives_app:
            exit_code = train_on(run.session, stray)
            say(last_words(run.session), sys.stderr)
        elif run:
            with _leaving_at_once():
                _end(run, stray, exit_code)
                exit_code = exit_code or _hand_over(run, stray)
    if not threads_ended(TALK_SECONDS):
        # A chat that was left still loads. It has nothing to save, but would abort the process.
        os._exit(exit_code)
    return exit_code


def _end(run: SteeredRun, stray: StrayOutput, exit_code: int) -> None:
    """Wait for a run that was stopped, and say what became of it."""
    session = run.session
    if session.is_alive() and not session.has_begun:
        say(NOTHING_MADE, stray.screen)
        os._exit(exit_code)
    if not session.join(QUIET_JOIN_SECONDS):
        say("Waiting for the step in flight, to save what was trained…", stray.screen)
    is_over = session.join(JOIN_SECONDS)
    run.claim_log()
    if session.exit_code == FAILED_EXIT and stray.unclaimed:
        say(stray.unclaimed, stray.screen)
    say(last_words(session), stray.screen)
    if not is_over:
        # The thread sits in a device call that nothing ends: neither may it hold the shell.
        os._exit(exit_code or FAILED_EXIT)


def _hand_over(run: SteeredRun, stray: StrayOutput) -> int:
    """Let a process in the background go on with a run that was ended for that."""
    session = run.session
    is_ended_early = session.is_alive() or not session.events or session.exit_code
    if not run.is_handed_over or is_ended_early or is_complete(session):
        return 0
    directory = session.directory
    try:
        process = start_in_background(["--resume", run.path, "--yes"], directory, stray.screen)
    except RunError as error:
        say(f"Error: the background process did not start. {error}", stray.screen)
        return FAILED_EXIT
    say(watching_words(directory, name_of(directory), process), stray.screen)
    return 0


@contextmanager
def _leaving_at_once() -> Generator[None]:
    """Without a screen, a signal means that nobody wants to wait any longer."""

    def leave(number: int, _frame: FrameType | None) -> None:
        os._exit(SIGNAL_EXIT_BASE + number)

    before = {number: signal.signal(number, leave) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
