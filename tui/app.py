"""The app: follows one run at ten looks a second, and ends in good order."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, SystemCommand

from engine.errors import LoraTuiError
from tui import signals
from tui.bindings import active_commands, bindings
from tui.confirm import DETACH, STOP, Question, abort_question, detach_question, leave_question
from tui.dashboard import Dashboard
from tui.help import HelpScreen
from tui.home import HomeScreen
from tui.themes import DEFAULT_THEME, THEMES
from tui.watch import RunWatch

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable

    from textual.binding import BindingType
    from textual.screen import Screen

    from tui.controls import Doors, HomeData, RunControls

TICK = 0.1
"""Seconds between two looks at the run."""
TERMINAL_CHECK = 1.0
"""Seconds between two looks at whether the terminal is still there."""


class LoraTuiApp(App[None]):
    """Home and dashboard; whoever runs it joins the trainer afterwards."""

    TITLE = "lora-tui"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]

    def __init__(
        self,
        controls: RunControls | None = None,
        home: HomeData | None = None,
        doors: Doors | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        # Textual greys its colours out for NO_COLOR, which asks for none at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.run_watch = RunWatch(controls, now) if controls else None
        self._home = home
        self._doors = doors
        self._now = now
        self._dashboard: Dashboard | None = None
        self._is_leaving = False
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT_THEME

    def get_default_screen(self) -> Screen[None]:
        """Begin with the run if there is one, else at home."""
        if self.run_watch is not None:
            self._dashboard = Dashboard(self.run_watch)
            return self._dashboard
        if self._home is None:
            raise ValueError("The app needs a run to watch, or something to show at home.")
        return HomeScreen(self._home)

    def on_mount(self) -> None:
        """Begin the run once the first frame is up, and look at it from then on."""
        self.set_interval(TICK, self.tick)
        if not self.is_headless:
            signals.hear(self.end_for_signal)
            if signals.has_terminal():
                self.set_interval(TERMINAL_CHECK, self._end_without_terminal)
        if self.run_watch is not None:
            self.call_after_refresh(self._begin)

    def on_unmount(self) -> None:
        """Leave no run behind that nobody watches, whatever ended the app."""
        run = self.run_watch
        if run is not None and run.is_left_alone:
            run.ask("stop", "the dashboard was closed")

    def tick(self) -> None:
        """Look at the run; draw what is new, and leave when that was asked or is all there is."""
        run, dashboard = self.run_watch, self._dashboard
        if run is None or dashboard is None:
            return
        changed = run.poll()
        refused = run.refused_input
        if refused and self._home is not None:
            self.go_home(f"{refused.reason} {refused.hint}")
        elif refused or (run.is_over and self._is_leaving):
            self.exit(return_code=run.controls.exit_code)
        else:
            dashboard.tick(changed=changed)

    def end_for_signal(self, number: signal.Signals) -> None:
        """Stop the run, which saves, and leave with the signal's exit code."""
        if self.run_watch is not None:
            self.run_watch.hear(number)
        self.exit(return_code=signals.SIGNAL_EXIT_BASE + number)

    def action_leave(self) -> None:
        """Leave at once when nothing runs; else ask, and save first."""
        run = self.run_watch
        if run is None or run.may_be_left or self._is_leaving:
            self.exit(return_code=run.controls.exit_code if run else 0)
        elif not isinstance(self.screen, Question):
            self.push_screen(leave_question(run), self._leave)

    def action_interrupt(self) -> None:
        """Ask like ``q``; when asked already, stop, save and leave now."""
        if isinstance(self.screen, Question) or self._is_leaving:
            self.end_for_signal(signals.INTERRUPT)
        else:
            self.action_leave()

    def action_help(self) -> None:
        """Show every key."""
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_suspend_run(self) -> None:
        """Give the shell back for now; training stands still with everything else."""
        if self.is_headless:
            return
        with self.suspend():
            signals.say("lora-tui is suspended, and training with it. fg goes on.")
            signals.stop_process_group()
        self.notify("Training stood still while lora-tui was suspended.")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer in the palette what the keys would do now."""
        for key in active_commands(screen):
            run = partial(self.run_action, key.action, screen)
            yield SystemCommand(f"{key.label.capitalize()} ({key.shown})", key.help, run)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    def on_home_screen_preset_chosen(self, event: HomeScreen.PresetChosen) -> None:
        """Start the preset."""
        if self._doors is not None:
            self._enter(partial(self._doors.start_preset, event.name))

    def on_home_screen_run_chosen(self, event: HomeScreen.RunChosen) -> None:
        """Open the run, or go on with it."""
        if self._doors is not None:
            door = self._doors.resume_run if event.goes_on else self._doors.open_run
            self._enter(partial(door, event.path))

    def on_dashboard_abort_asked(self) -> None:
        """Stop the run, once the person is sure."""
        self.push_screen(abort_question(), self._stop)

    def on_dashboard_detach_asked(self) -> None:
        """Hand the run over, once the person knows what that costs."""
        if (run := self.run_watch) is not None:
            self.push_screen(detach_question(run.loading_seconds), self._leave)

    def on_dashboard_home_asked(self) -> None:
        """Go back home from a run that is over."""
        self.go_home()

    def go_home(self, problem: str = "") -> None:
        """Leave the run's screens, and say at home what went wrong with it."""
        self.run_watch = self._dashboard = None
        while len(self.screen_stack) > 1:
            self.pop_screen()
        if problem and isinstance(self.screen, HomeScreen):
            self.screen.show_problem(problem)

    def _enter(self, open_run: Callable[[], RunControls]) -> None:
        try:
            controls = open_run()
        except LoraTuiError as error:
            self.go_home(str(error))
            return
        self.run_watch = RunWatch(controls, self._now)
        self._dashboard = Dashboard(self.run_watch, has_home=True)
        self.push_screen(self._dashboard)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        run, dashboard = self.run_watch, self._dashboard
        if run is None or dashboard is None:
            return
        run.start()
        self.tick()
        # A run that was refused at once has led home already.
        if self._dashboard is dashboard:
            self.run_worker(dashboard.loss.load_plotter)

    def _leave(self, choice: str | None) -> None:
        self._is_leaving = choice in (STOP, DETACH)
        self._stop(choice)

    def _stop(self, choice: str | None) -> None:
        if self._dashboard is not None and choice in (STOP, DETACH):
            self._dashboard.ask("detach" if choice == DETACH else "stop")

    def _end_without_terminal(self) -> None:
        if signals.is_terminal_gone():
            self.end_for_signal(signals.HANG_UP)
