"""How the app is left: asked, by a key, by a signal, or because its terminal is gone."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from textual.app import App

from tui import signals
from tui.confirm import STOP, Question, leave_question

if TYPE_CHECKING:
    import signal

    from tui.dashboard import Dashboard
    from tui.watch import RunWatch


class LeavingApp(App[None]):
    """Ends in good order: the run saved, the terminal restored."""

    run_watch: RunWatch | None = None
    """The run that is looked at; None at home."""
    dashboard: Dashboard | None = None
    is_leaving: bool = False
    """Whether the app goes once the run has ended."""

    def on_unmount(self) -> None:
        """Leave no run behind that nobody watches, whatever ended the app."""
        run = self.run_watch
        if run is not None and run.controls.is_alive() and not run.is_stopping:
            run.ask("stop", "the dashboard was closed")

    def end_for_signal(self, number: signal.Signals) -> None:
        """Stop the run, which saves, and leave with the signal's exit code."""
        if self.run_watch is not None:
            self.run_watch.ask("stop", f"signal {number.name}")
        if number == signals.HANG_UP:
            signals.write_without_waiting(self._driver)
        self.exit(return_code=signals.SIGNAL_EXIT_BASE + number)

    def action_leave(self) -> None:
        """Leave at once when nothing runs; else ask, and save first."""
        run = self.run_watch
        if run is None or run.is_over or self.is_leaving:
            self.exit(return_code=run.controls.exit_code if run else 0)
        elif not isinstance(self.screen, Question):
            self.push_screen(leave_question(is_loading=run.view.started is None), self._leave)

    def action_interrupt(self) -> None:
        """Ask like ``q``; when asked already, stop, save and leave now."""
        if isinstance(self.screen, Question) or self.is_leaving:
            self.end_for_signal(signals.INTERRUPT)
        else:
            self.action_leave()

    def action_suspend_run(self) -> None:
        """Give the shell back for now; training stands still with everything else."""
        if self.is_headless:
            return
        # Textual gives the terminal to whatever prints meanwhile, on other threads too.
        out, err = sys.stdout, sys.stderr
        with self.suspend(), redirect_stdout(out), redirect_stderr(err):
            signals.say("lora-tui is suspended, and training with it. fg goes on.")
            signals.stop_process_group()
        self.notify("Training stood still while lora-tui was suspended.")

    def _leave(self, choice: str | None) -> None:
        self.is_leaving = choice == STOP
        self.stop_if(choice)

    def stop_if(self, choice: str | None) -> None:
        """Stop the run where that was the answer."""
        if choice == STOP and self.dashboard is not None:
            self.dashboard.ask("stop")

    def end_without_terminal(self) -> None:
        """Leave like on SIGHUP once nobody can see the screen any more."""
        if signals.is_terminal_gone():
            self.end_for_signal(signals.HANG_UP)
