"""The dashboard: one screen that tells how a run goes, and steers it."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, ClassVar, cast

from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from engine.errors import LoraTuiError
from tui.beacon import Beacon
from tui.bindings import bindings
from tui.chat import ChatScreen
from tui.filter_box import FilterBox
from tui.footer import KeyFooter
from tui.header import Header
from tui.home import HomeScreen
from tui.panes.checkpoints import CheckpointsPane
from tui.panes.log import LogPane
from tui.panes.loss import PAN_SHARE, LossPane
from tui.panes.machine import MachinePane
from tui.panes.memory import MemoryPane
from tui.panes.pace import PacePane
from tui.panes.pane import Pane
from tui.panes.samples import SamplesPane
from tui.signals import has_terminal, is_terminal_gone
from tui.steering import SteeringScreen

if TYPE_CHECKING:
    from textual import events
    from textual.app import App, ComposeResult
    from textual.binding import BindingType
    from textual.signal import Signal

    from tui.watch import RunWatch

CALM_TICKS = 3
"""Ticks between two drawings while only numbers change; what a person did shows at once."""
CLOCK_TICKS = 10
"""Ticks after which clocks are drawn again, whatever happened."""
STILL_TICKS = 10
"""The same while the run stands still: only ages of minutes grow then."""
SETTLE_STEPS = 10_000
LOADED_SECONDS = 3.0
"""When a command that loads without searching for garbage begins to: all is drawn by then."""
MOVE_SHARE = 0.02
"""How much of what the curve shows one key goes back or forth."""
LEAST_WIDTH, LEAST_HEIGHT = 60, 16
WIDTHS = [(0, "-tiny"), (LEAST_WIDTH, "-slim"), (80, "-narrow"), (100, "-wide")]
HEIGHTS = [
    (0, "-flat"), (LEAST_HEIGHT, "-low"), (24, "-short"),
    (30, "-tall"), (38, "-high"), (50, "-huge"),
]  # fmt: skip


class Dashboard(SteeringScreen):
    """All panes of one run."""

    HORIZONTAL_BREAKPOINTS = WIDTHS
    VERTICAL_BREAKPOINTS = HEIGHTS
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("run", "chart", "panes", "back")]
    DEFAULT_CSS = """
    Dashboard {
        background: $background;
        .row { width: 1fr; }
        #top { height: 1fr; }
        #middle { height: 6; }
        #bottom { height: 4; }
        #memory { width: 30; }
        #machine { width: 27; }
        #pace { width: 27; }
        #log { width: 4fr; }
        #samples { width: 3fr; }
        #too-small { display: none; width: 1fr; height: 1fr; content-align: center middle; }
        Footer { background: $surface; }
    }
    Dashboard.-tall { #middle { height: 8; } #bottom { height: 6; } }
    Dashboard.-high { #middle { height: 10; } #bottom { height: 8; } }
    Dashboard.-huge { #middle { height: 12; } #bottom { height: 14; } }
    Dashboard.-low #bottom { display: none; }
    Dashboard.-slim {
        #checkpoints { display: none; }
        #machine, #pace { width: 1fr; }
    }
    Dashboard.-wide {
        #memory { width: 36%; max-width: 64; }
        #machine, #pace { width: 1fr; }
        #checkpoints { width: 1.4fr; }
        #log, #samples { width: 1fr; }
    }
    Dashboard.-one-pane {
        .row { display: none; }
        .row.-open { display: block; height: 1fr !important; }
        .row.-open Pane { display: none; }
        .row.-open Pane.-open {
            display: block;
            width: 1fr !important;
            max-width: 100% !important;
        }
    }
    Dashboard.-tiny, Dashboard.-flat {
        .row, Header, Footer { display: none; }
        #too-small { display: block; }
    }
    """

    class AbortAsked(Message):
        """Somebody wants this run to stop for good."""

    class HomeAsked(Message):
        """Somebody wants to go back to where this run was opened."""

    def __init__(self, run_watch: RunWatch, *, has_home: bool = False, rings: bool = True) -> None:
        super().__init__()
        self.rings = rings
        """Whether the terminal's bell and notifications are used."""
        self.run_watch = run_watch
        self.loss = LossPane()
        self.checkpoints = CheckpointsPane()
        self._header = Header()
        self._has_home = has_home
        self._ticks = 0
        self._is_stale = True
        self._settled_steps = 0
        self._lifecycle: tuple[object, ...] = ()
        self._beacon: Beacon | None = None

    def compose(self) -> ComposeResult:
        """Lay out the panes in three rows."""
        yield self._header
        yield Static(id="too-small")
        with Horizontal(id="top", classes="row"):
            yield self.loss
            yield MemoryPane()
        with Horizontal(id="middle", classes="row"):
            yield MachinePane()
            yield PacePane()
            yield self.checkpoints
        with Horizontal(id="bottom", classes="row"):
            yield LogPane()
            yield SamplesPane()
        yield KeyFooter()

    def on_mount(self) -> None:
        """Tell the terminal too, except while the shell has it."""
        self.set_timer(LOADED_SECONDS, gc.enable)
        app = self._own_app
        driver = app._driver  # pyright: ignore[reportPrivateUsage]
        if driver is not None and (app.is_headless or has_terminal()):
            self._beacon = Beacon(driver.write, bell=self.rings)
            suspended = cast("Signal[App[None]]", app.app_suspend_signal)  # pyright: ignore[reportUnknownMemberType]
            suspended.subscribe(self, self._hush)

    def on_unmount(self) -> None:
        """Leave the terminal as it was found, also by a look that comes later."""
        self._hush()
        self._beacon = None

    def tick(self, *, changed: bool) -> None:
        """Draw if something happened that is worth it by now."""
        self._ticks += 1
        self._is_stale = self._is_stale or changed
        lifecycle = self._lifecycle_now()
        happened = lifecycle != self._lifecycle
        calm = self._is_stale and self._ticks >= CALM_TICKS
        clock_ticks = STILL_TICKS if self.run_watch.is_still else CLOCK_TICKS
        if happened or calm or self._ticks >= clock_ticks:
            self.draw()
        if happened:
            self._lifecycle = lifecycle
            self.refresh_bindings()
        self._settle()

    def draw(self) -> None:
        """Draw everything as it is now; panes paint only what changed."""
        self._ticks = 0
        self._is_stale = False
        self._header.show(self.run_watch)
        if self._beacon is not None:
            self._beacon.show(self.run_watch)
        for pane in self.query(Pane):
            pane.show(self.run_watch)

    def on_resize(self, event: events.Resize) -> None:
        """Say so where there is too little room for the panes."""
        size = event.size
        self.query_one("#too-small", Static).update(
            f"too small: {size.width}×{size.height} here, {LEAST_WIDTH}×{LEAST_HEIGHT} needed"
        )
        self.call_after_refresh(self.draw)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are only there while they do something."""
        run = self.run_watch
        match action:
            case "pause":
                return run.is_steerable and not run.wants_resume
            case "resume":
                return run.is_steerable and run.wants_resume
            case "checkpoint" | "evaluate" | "sample" | "next_policy":
                return run.is_steerable
            case "try":
                return run.can_be_tried
            case "abort":
                return not run.is_over and not run.is_stopping
            case "continue":
                return self._has_home and run.is_over and run.standing != "completed"
            case "open_pane":
                return not self._is_one_pane and isinstance(self.focused, Pane)
            case "go_back":
                looks_elsewhere = self._is_one_pane or run.place is not None
                return looks_elsewhere or (self._has_home and run.may_be_left)
            case _:
                checked = super().check_action(action, parameters)
                return checked and self._check_chart(action)

    def _check_chart(self, action: str) -> bool:
        match action:
            case "toggle_log" | "smooth" | "next_axis" | "toggle_rates" | "zoom":
                return len(self.run_watch.whole.steps) > 0
            case "show_whole":
                return not self.loss.zoom.is_whole
            case "move":
                return self._can_look_back or not self.loss.zoom.is_whole
            case "move_step" | "move_to":
                return self._can_look_back
            case _:
                return True

    def action_try(self, iteration: int | None = None) -> None:
        """Open the chat with a checkpoint, the newest if None."""
        try:
            talk = self.run_watch.controls.open_talk(iteration)
        except LoraTuiError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.app.push_screen(ChatScreen(talk))  # pyright: ignore[reportUnknownMemberType]

    def action_abort(self) -> None:
        """Stop the run, once the person is sure."""
        if not self.is_refused():
            self.post_message(self.AbortAsked())

    def action_continue(self) -> None:
        """Go on with a run that ended early."""
        self.post_message(HomeScreen.RunChosen(self.run_watch.controls.path, goes_on=True))

    def action_toggle_log(self) -> None:
        """Change the scale of the curve."""
        self.loss.toggle_log()

    def action_smooth(self, levels: int) -> None:
        """Change what the average runs over."""
        self.loss.smooth(levels)

    def action_next_axis(self) -> None:
        """Change what the curve counts by."""
        self.loss.next_axis()

    def action_toggle_rates(self) -> None:
        """Change what the curve is of."""
        self.loss.toggle_rates()

    def action_zoom(self, levels: int) -> None:
        """Look closer at the curve, or from farther away."""
        self.loss.zoom_in(levels)
        self.refresh_bindings()

    def action_show_whole(self) -> None:
        """Show the whole curve."""
        self.loss.show_whole()
        self.refresh_bindings()

    def action_move(self, direction: int) -> None:
        """Go back or forth in a run that is over; of one that goes on, move what is in sight."""
        if self._can_look_back:
            first, last = self.loss.zoom.part(len(self.run_watch.whole.steps), self.run_watch.place)
            self._look_back(direction * max(1, round((last - first + 1) * MOVE_SHARE)))
        else:
            self.loss.pan(direction * PAN_SHARE)

    def action_move_step(self, direction: int) -> None:
        """Go back or forth by one iteration."""
        self._look_back(direction)

    def action_move_to(self, share: int) -> None:
        """Go to the beginning or the end."""
        self.look_at(None if share else 0)

    def on_loss_pane_place_chosen(self, event: LossPane.PlaceChosen) -> None:
        """Look at the moment that was pointed at."""
        if self._can_look_back:
            self.look_at(event.place)

    def look_at(self, place: int | None) -> None:
        """Show all panes as they were at a step, or as they are."""
        self.run_watch.look_at(place)
        self.draw()
        self.refresh_bindings()

    def _look_back(self, steps: int) -> None:
        at = self.run_watch.place
        end = len(self.run_watch.whole.steps) - 1
        self.look_at(max(0, (end if at is None else at) + steps))

    @property
    def _can_look_back(self) -> bool:
        return self.run_watch.is_over and len(self.run_watch.whole.steps) > 1

    def action_filter_log(self) -> None:
        """Ask what the log should show."""
        log = self.query_one(LogPane)
        box = FilterBox(log.words, log.filter_by)
        self._own_app.push_screen(box)

    def action_open_pane(self) -> None:
        """Give the focused pane the whole screen."""
        if isinstance(self.focused, Pane) and self.focused.parent is not None:
            self.focused.add_class("-open")
            self.focused.parent.add_class("-open")
            self.set_class(True, "-one-pane")
            self.refresh_bindings()

    def action_go_back(self) -> None:
        """Show all panes again, or go home."""
        if not self._is_one_pane:
            if self.run_watch.place is not None:
                self.look_at(None)
            else:
                self.post_message(self.HomeAsked())
            return
        for opened in self.query(".-open"):
            opened.remove_class("-open")
        self.set_class(False, "-one-pane")
        self.refresh_bindings()

    @property
    def _own_app(self) -> App[None]:
        return cast("App[None]", self.app)  # pyright: ignore[reportUnknownMemberType]

    def _settle(self) -> None:
        """Keep what stays to the end out of what is searched for garbage.

        What the libraries made, and every step's event: searched through each time, it would hold
        up keys for a tenth of a second.
        """
        steps = len(self.run_watch.whole.steps)
        due = steps - self._settled_steps >= SETTLE_STEPS or (steps and not self._settled_steps)
        # The first picture does not wait for it.
        if due and self.loss.can_plot and not self._own_app.is_headless:
            self._settled_steps = steps
            gc.collect()
            gc.freeze()

    def _hush(self, _: object = None) -> None:
        # Textual's queue of writes would fill up where nobody reads them any more, and block.
        if self._beacon is not None and (self._own_app.is_headless or not is_terminal_gone()):
            self._beacon.clear()

    @property
    def _is_one_pane(self) -> bool:
        return self.has_class("-one-pane")

    def _lifecycle_now(self) -> tuple[object, ...]:
        """Everything but the numbers: when it differs, the screen must not wait."""
        run, view = self.run_watch, self.run_watch.view
        return (
            run.standing, run.wants_resume, run.asked_words, view.activity, view.started is None,
            len(view.steps) > 0, len(view.evaluations), len(view.checkpoints), len(view.samples),
            len(view.guard_actions), len(view.log), view.policy,
        )  # fmt: skip
