"""How the app is left: asked, by a key, by a signal, or because its terminal is gone."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from textual.app import App

from tui import signals
from tui.confirm import DETACH, STOP, Question, detach_question, leave_question
from tui.terminal import is_served

if TYPE_CHECKING:
    import signal

    from tui.dashboard import Dashboard
    from tui.watch import RunWatch

TERMINAL_CHECK = 1.0
"""Seconds between two looks at whether the terminal is still there."""
_SUSPENDED = "lora-tui is suspended, and training with it. fg goes on."
_SUSPENDED_ALONE = "lora-tui is suspended; the run trains on. fg shows it again."


class LeavingApp(App[None]):
    """Ends in good order: the run saved, the terminal restored."""

    run_watch: RunWatch | None = None
    """The run that is looked at; None at home."""
    dashboard: Dashboard | None = None
    is_leaving: bool = False
    """Whether the app goes once the run has ended."""
    _server: int = 0
    """The process that serves this in a browser."""

    def on_unmount(self) -> None:
        """Leave no run behind that nobody watches, whatever ended the app."""
        run = self.run_watch
        if run is not None and run.is_left_alone:
            run.ask("stop", "the dashboard was closed")

    def heed_terminal(self) -> None:
        """Hear signals, and notice when the terminal is gone."""
        if self.is_headless:
            return
        signals.hear(self.end_for_signal)
        if signals.has_terminal():
            self.set_interval(TERMINAL_CHECK, self.end_without_terminal)
        elif is_served():
            self._server = os.getppid()
            self.set_interval(TERMINAL_CHECK, self.end_without_server)

    def end_for_signal(self, number: signal.Signals) -> None:
        """Leave with the signal's exit code; a run that ends with the app is saved."""
        if self.run_watch is not None:
            self.run_watch.hear(number)
        if number == signals.HANG_UP:
            signals.write_without_waiting(self._driver)
        self.exit(return_code=signals.SIGNAL_EXIT_BASE + number)

    def action_leave(self) -> None:
        """Leave at once when nothing runs; else ask, and save first."""
        run = self.run_watch
        if run is None or run.may_be_left or self.is_leaving:
            self.exit(return_code=run.controls.exit_code if run else 0)
        elif not isinstance(self.screen, Question):
            self.push_screen(leave_question(run), self.leave_if)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Handing over is only there while there is something to hand over."""
        if action == "detach":
            return self.run_watch is not None and self.run_watch.can_be_handed_over
        return super().check_action(action, parameters)

    def action_detach(self) -> None:
        """Hand the run over, once the person knows what that costs."""
        if self.run_watch is not None:
            self.push_screen(detach_question(self.run_watch.loading_seconds), self.leave_if)

    def action_interrupt(self) -> None:
        """Ask like ``q``; when asked already, stop, save and leave now."""
        if isinstance(self.screen, Question) or self.is_leaving:
            self.end_for_signal(signals.INTERRUPT)
        else:
            self.action_leave()

    def action_suspend_run(self) -> None:
        """Give the shell back for now; training stands still with everything else."""
        # A browser has no shell to give back.
        if self.is_headless or self.is_web:
            return
        goes_on = self.run_watch is not None and self.run_watch.controls.outlives_app
        # Textual gives the terminal to whatever prints meanwhile, on other threads too.
        out, err = sys.stdout, sys.stderr
        with self.suspend(), redirect_stdout(out), redirect_stderr(err):
            signals.say(_SUSPENDED_ALONE if goes_on else _SUSPENDED)
            signals.stop_process_group()
        if not goes_on:
            self.notify("Training stood still while lora-tui was suspended.")

    def leave_if(self, choice: str | None) -> None:
        """Leave, once the run has ended here, where that was the answer."""
        self.is_leaving = choice in (STOP, DETACH)
        self.stop_if(choice)

    def stop_if(self, choice: str | None) -> None:
        """Stop the run, or hand it over, where that was the answer."""
        if self.dashboard is not None and choice in (STOP, DETACH):
            self.dashboard.ask("detach" if choice == DETACH else "stop")

    def end_without_server(self) -> None:
        """Leave when who serves this in a browser is gone without a word."""
        if os.getppid() != self._server:
            self.end_for_signal(signals.HANG_UP)

    def end_without_terminal(self) -> None:
        """Leave like on SIGHUP once nobody can see the screen any more."""
        if signals.is_terminal_gone():
            self.end_for_signal(signals.HANG_UP)
