"""The app: follows one run, ten looks a second while it moves, and ends in good order."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import SystemCommand

from engine.errors import LoraTuiError
from tui.bindings import active_commands, bindings
from tui.confirm import abort_question
from tui.help import HelpScreen
from tui.home import HomeScreen
from tui.leaving import LeavingApp
from tui.settings import Settings, shown_keys
from tui.themes import THEMES, WITHOUT_EMOJI
from tui.watch import RunWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual.binding import BindingType
    from textual.screen import Screen

    from tui.controls import Bench, Doors, HomeData, RunControls
    from tui.dashboard import Dashboard
    from tui.desk import CheckpointDesk
    from tui.panes.checkpoints import CheckpointsPane

TICK = 0.1
"""Seconds between two looks at the run."""
STILL_TICK = 0.5
"""The same while the run stands still and nothing is asked of it."""
WARNING_SECONDS = 20.0


class LoraTuiApp(LeavingApp):
    """Home and dashboard; whoever runs it joins the trainer afterwards."""

    TITLE = "lora-tui"
    CSS = WITHOUT_EMOJI
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]

    def __init__(
        self,
        controls: RunControls | None = None,
        home: HomeData | None = None,
        doors: Doors | None = None,
        bench: Bench | None = None,
        now: Callable[[], float] = time.time,
        settings: Settings | None = None,
    ) -> None:
        # Textual greys its colours out for NO_COLOR, which asks for none at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.run_watch = RunWatch(controls, now) if controls else None
        self._home = home
        self._doors = doors
        self._bench = bench
        self._now = now
        self._desk: CheckpointDesk | None = None
        self._help: HelpScreen | None = None
        for theme in THEMES:
            self.register_theme(theme)
        self.use(settings or Settings())

    def use(self, settings: Settings) -> None:
        """Follow a person's settings; once, before the app runs."""
        self.settings = settings
        self.theme = settings.theme
        self.set_keymap(settings.keys)

    def get_default_screen(self) -> Screen[None]:
        """Begin with the run if there is one, else at home."""
        if self.run_watch is not None:
            return self._new_dashboard(self.run_watch)
        if self._home is None:
            raise ValueError("The app needs a run to watch, or something to show at home.")
        return HomeScreen(self._home, self._doors, self._now)

    def on_mount(self) -> None:
        """Begin the run once the first frame is up, and look at it from then on."""
        self.set_timer(TICK, self._look)
        if self.settings.warning:
            self.notify(self.settings.warning, severity="warning", timeout=WARNING_SECONDS)
        self.heed_terminal()
        if self.run_watch is not None:
            if refusal := self.run_watch.controls.refusal:
                self.notify(refusal, markup=False)
            self.call_after_refresh(self._begin)

    def _look(self) -> None:
        self.tick()
        run = self.run_watch
        self.set_timer(STILL_TICK if run is None or run.is_still else TICK, self._look)

    def tick(self) -> None:
        """Look at the run; draw what is new, and leave when that was asked or is all there is."""
        run, dashboard = self.run_watch, self.dashboard
        if run is None or dashboard is None:
            return
        changed = run.poll()
        refused = run.refused_input
        if refused and self._home is not None:
            self.go_home(f"{refused.reason} {refused.hint}")
        elif refused or (run.is_over and self.is_leaving):
            self.exit(return_code=run.controls.exit_code)
        else:
            dashboard.tick(changed=changed)

    def action_help(self) -> None:
        """Show every key."""
        if isinstance(self.screen, HelpScreen):
            return
        # Kept once it is laid out: the next time it is there at once.
        if self._help is None:
            self._help = HelpScreen(self.settings.keys)
            self.install_screen(self._help, "help")  # pyright: ignore[reportUnknownMemberType]
        self.push_screen("help")

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer in the palette what the keys would do now."""
        for key in active_commands(screen):
            run = partial(self.run_action, key.action, screen)
            shown = shown_keys([key.id], self.settings.keys) or key.shown
            yield SystemCommand(f"{key.label.capitalize()} ({shown})", key.help, run)
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    def on_home_screen_preset_chosen(self, event: HomeScreen.PresetChosen) -> None:
        """Start the preset, with the settings that somebody filled in."""
        if self._doors is None:
            return
        start = partial(self._doors.start_preset, event.name)
        if event.draft is not None and self._doors.start_draft is not None:
            start = partial(self._doors.start_draft, event.draft)
        self._enter(start)

    def on_home_screen_run_chosen(self, event: HomeScreen.RunChosen) -> None:
        """Open the run, or go on with it."""
        if self._doors is not None:
            door = self._doors.resume_run if event.goes_on else self._doors.open_run
            self._enter(partial(door, event.path))

    def on_checkpoints_pane_asked(self, event: CheckpointsPane.Asked) -> None:
        """Do what somebody wants done with a checkpoint."""
        if desk := self._desk:
            self.run_worker(partial(desk.act, event.act, event.saved), group="desk", exclusive=True)

    def on_dashboard_abort_asked(self) -> None:
        """Stop the run, once the person is sure."""
        self.push_screen(abort_question(), self.stop_if)

    def on_dashboard_home_asked(self) -> None:
        """Go back home from a run that is over."""
        self.go_home()

    def go_home(self, problem: str = "") -> None:
        """Leave the run's screens, and say at home what went wrong with it."""
        path = ""
        if self.run_watch is not None:
            path = self.run_watch.controls.path
            self.run_watch.controls.leave()
        self.run_watch = self.dashboard = None
        while len(self.screen_stack) > 1:
            self.pop_screen()
        if isinstance(self.screen, HomeScreen):
            if problem:
                self.screen.show_problem(problem)
            else:
                self.screen.come_back(path)

    def _enter(self, open_run: Callable[[], RunControls]) -> None:
        try:
            controls = open_run()
        except LoraTuiError as error:
            self.go_home(str(error))
            return
        self.run_watch = RunWatch(controls, self._now)
        self.push_screen(self._new_dashboard(self.run_watch))
        self.call_after_refresh(self._begin)

    def _new_dashboard(self, run: RunWatch) -> Dashboard:
        from tui.dashboard import Dashboard  # home is painted without them
        from tui.desk import CheckpointDesk

        self.dashboard = board = Dashboard(run, has_home=bool(self._home), rings=self.settings.bell)
        self._desk = self._bench and CheckpointDesk(board, self._bench, has_home=bool(self._home))
        return board

    def _begin(self) -> None:
        run, dashboard = self.run_watch, self.dashboard
        if run is None or dashboard is None:
            return
        run.start()
        self.tick()
        # A run that was refused at once has led home already.
        if self.dashboard is dashboard:
            self.run_worker(dashboard.loss.load_plotter)
