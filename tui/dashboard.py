"""The dashboard: one screen that tells how a run goes, and steers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, Static

from tui.bindings import bindings
from tui.header import Header
from tui.home import HomeScreen
from tui.panes.checkpoints import CheckpointsPane
from tui.panes.log import LogPane
from tui.panes.loss import LossPane
from tui.panes.machine import MachinePane
from tui.panes.memory import MemoryPane
from tui.panes.pace import PacePane
from tui.panes.pane import Pane
from tui.panes.samples import SamplesPane

if TYPE_CHECKING:
    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.watch import Request, RunWatch

CALM_TICKS = 3
"""Ticks between two drawings while only numbers change; what a person did shows at once."""
CLOCK_TICKS = 10
"""Ticks after which clocks are drawn again, whatever happened."""
LEAST_WIDTH, LEAST_HEIGHT = 60, 16
WIDTHS = [(0, "-tiny"), (LEAST_WIDTH, "-slim"), (80, "-narrow"), (100, "-wide")]
HEIGHTS = [
    (0, "-flat"), (LEAST_HEIGHT, "-low"), (24, "-short"),
    (30, "-tall"), (38, "-high"), (50, "-huge"),
]  # fmt: skip


class Dashboard(Screen[None]):
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
    Dashboard.-tall { #middle { height: 7; } #bottom { height: 7; } }
    Dashboard.-high { #middle { height: 8; } #bottom { height: 9; } }
    Dashboard.-huge { #middle { height: 8; } #bottom { height: 14; } }
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

    class DetachAsked(Message):
        """Somebody wants this run to go on in the background."""

    class HomeAsked(Message):
        """Somebody wants to go back to where this run was opened."""

    def __init__(self, run_watch: RunWatch, *, has_home: bool = False) -> None:
        super().__init__()
        self.run_watch = run_watch
        self.loss = LossPane()
        self._header = Header()
        self._has_home = has_home
        self._ticks = 0
        self._is_stale = True
        self._lifecycle: tuple[object, ...] = ()

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
            yield CheckpointsPane()
        with Horizontal(id="bottom", classes="row"):
            yield LogPane()
            yield SamplesPane()
        yield Footer(compact=True, show_command_palette=False)

    def tick(self, *, changed: bool) -> None:
        """Draw if something happened that is worth it by now."""
        self._ticks += 1
        self._is_stale = self._is_stale or changed
        lifecycle = self._lifecycle_now()
        happened = lifecycle != self._lifecycle
        calm = self._is_stale and self._ticks >= CALM_TICKS
        if happened or calm or self._ticks >= CLOCK_TICKS:
            self.draw()
        if happened:
            self._lifecycle = lifecycle
            self.refresh_bindings()

    def draw(self) -> None:
        """Draw everything as it is now; panes paint only what changed."""
        self._ticks = 0
        self._is_stale = False
        self._header.show(self.run_watch)
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
            case "abort":
                return not run.is_over and not run.is_stopping
            case "detach":
                return run.is_steerable and run.controls.can_detach and not run.is_stopping
            case "continue":
                return self._has_home and run.is_over and run.standing != "completed"
            case "toggle_log" | "smooth" | "next_axis":
                return len(run.view.steps) > 0
            case "open_pane":
                return not self._is_one_pane and isinstance(self.focused, Pane)
            case "go_back":
                return self._is_one_pane or (self._has_home and run.is_over)
            case _:
                return super().check_action(action, parameters)

    def action_pause(self) -> None:
        """Ask the run to stand still."""
        self.ask("pause")

    def action_resume(self) -> None:
        """Ask the run to go on."""
        self.ask("resume")

    def action_checkpoint(self) -> None:
        """Ask the run to save."""
        self.ask("checkpoint")

    def action_evaluate(self) -> None:
        """Ask the run for its validation loss."""
        self.ask("evaluate")

    def action_sample(self) -> None:
        """Ask the run to answer the fixed prompts."""
        self.ask("sample")

    def action_next_policy(self) -> None:
        """Change what happens when memory runs short."""
        self.run_watch.next_policy()
        self.draw()

    def action_abort(self) -> None:
        """Stop the run, once the person is sure."""
        self.post_message(self.AbortAsked())

    def action_detach(self) -> None:
        """Hand the run over, once the person is sure."""
        self.post_message(self.DetachAsked())

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
            self.post_message(self.HomeAsked())
            return
        for opened in self.query(".-open"):
            opened.remove_class("-open")
        self.set_class(False, "-one-pane")
        self.refresh_bindings()

    @property
    def _is_one_pane(self) -> bool:
        return self.has_class("-one-pane")

    def ask(self, request: Request) -> None:
        """Ask something of the run, and show at once that it was asked."""
        self.run_watch.ask(request)
        self.draw()
        self.refresh_bindings()

    def _lifecycle_now(self) -> tuple[object, ...]:
        """Everything but the numbers: when it differs, the screen must not wait."""
        run, view = self.run_watch, self.run_watch.view
        return (
            run.standing, run.wants_resume, run.asked_words, view.activity, view.started is None,
            len(view.steps) > 0, len(view.evaluations), len(view.checkpoints), len(view.samples),
            len(view.guard_actions), len(view.log), view.policy,
        )  # fmt: skip
