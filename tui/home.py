"""The home screen: runs to open, presets to start, and what machine this is."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static

from engine.errors import LoraTuiError
from tui import asking, home_rows
from tui.bindings import bindings
from tui.confirm import CHANGE, DELETE, START, delete_run_question, misfit_question
from tui.footer import KeyFooter
from tui.home_rows import DEMO, SORTS, chosen, preset_details, preset_row, run_details, run_row
from tui.shelf import Shelf
from tui.words import size

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.controls import Doors, HomeData, PresetLine, RunLine
    from tui.draft import Draft
    from tui.new_run import Drafted

WIDTHS = [(0, "-narrow"), (72, "-roomy")]
LOOK_SECONDS = 3.0
"""Between two looks at the runs, which other processes may train."""


class HomeScreen(Screen[None]):
    """Where ``lora-tui`` without arguments begins."""

    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("home", "filter")]
    DEFAULT_CSS = """
    HomeScreen {
        align: center top;
        background: $background;
        #page { width: 1fr; max-width: 150; height: 1fr; padding: 1 1 0 1; }
        #brand { height: 2; padding: 0 1; }
        #logo { color: $primary; width: 30; }
        #sentence { width: 1fr; text-align: right; color: $text-muted; }
        #problem { color: $text-error; height: auto; max-height: 4; display: none; padding: 0 1; }
        #first {
            height: auto; padding: 0 1; border: round $primary; display: none;
            border-title-color: $primary; border-title-style: bold;
        }
        #filter { display: none; height: 1; padding: 0 1; background: $surface; border: none; }
        #presets { max-height: 12; }
        #details { height: 3; padding: 0 2; }
        #machine-line { color: $text-muted; height: 1; padding: 0 2; }
        Footer { background: $surface; }
    }
    HomeScreen.-narrow #sentence { display: none; }
    """

    @dataclass
    class PresetChosen(Message):
        """A preset is to be started, with other settings if somebody filled them in."""

        name: str
        draft: Draft | None = None

    @dataclass
    class RunChosen(Message):
        """A run is to be opened, or gone on with."""

        path: str
        goes_on: bool = False

    def __init__(
        self, home: HomeData, doors: Doors | None = None, now: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._home = home
        self._doors = doors
        self._now = now
        self._sort = SORTS[0]
        self._drafts: dict[str, Draft] = {}
        """What was filled in last, by preset, so that a run that was refused can be corrected."""
        self._is_measuring = False
        self._came_from = ""
        """The folder of the run that somebody comes back from, until it is listed."""

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with Vertical(id="page"):
            with Horizontal(id="brand"):
                yield Static(home_rows.LOGO, id="logo", markup=False)
                yield Static(home_rows.SENTENCE, id="sentence", markup=False)
            yield Static(id="problem", markup=False)
            yield Static(home_rows.WELCOME, id="first", markup=False)
            yield Input(placeholder="words to look for", id="filter", compact=True)
            yield Shelf(id="runs", markup=False)
            yield Shelf(id="presets", markup=False)
            yield Static(id="details", markup=False)
            yield Static(id="machine-line", markup=False)
        yield KeyFooter()

    def on_mount(self) -> None:
        """Show what is there at once, and look for the rest."""
        self.query_one("#first").border_title = "welcome"
        self.query_one("#presets").border_title = "presets"
        self._show(self._home)
        self._place_cursor()
        self.set_interval(LOOK_SECONDS, self.look_again)
        # Loading until the first frame may go without, to be sooner done.
        self.call_after_refresh(self.call_after_refresh, gc.enable)

    def on_screen_resume(self) -> None:
        """Look again, as a run may have come back; not before the first frame is up."""
        # Rows and footer are drawn only once the size is known.
        self.call_after_refresh(self.call_after_refresh, self.look_again)

    def on_resize(self, _: events.Resize) -> None:
        """Lay the rows out for the new width."""
        self.call_after_refresh(self._draw)

    def come_back(self, path: str) -> None:
        """Put the cursor on the run that somebody comes back from."""
        self._came_from = path
        self._go_to_run()

    def _go_to_run(self) -> None:
        if self._came_from and self._runs.go_to(self._came_from):
            self._came_from = ""
            self._runs.focus()

    def look_again(self) -> None:
        """Look at runs, presets and machine in the background, unless nobody sees them."""
        if self._doors is not None and self._doors.look is not None and self.is_current:
            # Uncalled: the next look may take this one's place before it begins.
            self.run_worker(partial(self._look, self._doors.look), group="look", exclusive=True)

    async def _look(self, look: Callable[[], HomeData]) -> None:
        try:
            home = await asyncio.to_thread(look)
        except (LoraTuiError, OSError) as error:
            self.show_problem(str(error))
            return
        # The app may have ended meanwhile.
        if not self.query("#runs"):
            return
        is_first = self._home.runs is None
        if home != self._home or is_first:
            self._show(home)
        if is_first:
            self._place_cursor()
        self._go_to_run()

    def _show(self, home: HomeData) -> None:
        self._home = home
        is_first_start = home.runs is not None and not home.runs
        self.query_one("#first").display = is_first_start
        self.query_one("#runs").display = not is_first_start
        self.query_one("#machine-line", Static).update(home.machine)
        self._draw()

    def _draw(self) -> None:
        """Lay out every row for the width there is."""
        runs, presets = self._runs, self._presets
        found = self._chosen()
        now = self._now()
        runs.show(
            [(run.path, run_row(run, runs.row_width, now)) for run in found],
            "looking for runs…" if self._home.runs is None else "no run has these words",
        )
        presets.show([(p.name, preset_row(p, presets.row_width)) for p in self._home.presets])
        every = len(self._home.runs or ())
        count = f"{every:,}" if len(found) == every else f"{len(found):,} of {every:,}"
        runs.border_title = f"runs on this machine · {count}" if every else "runs on this machine"
        order = f"{self._sort} first" if self._sort == "newest" else f"by {self._sort}"
        runs.border_subtitle = order if every > 1 else ""
        self._draw_details()

    def _chosen(self) -> list[RunLine]:
        wanted = self.query_one("#filter", Input).value
        return chosen(self._home.runs or (), wanted, self._sort)

    def _draw_details(self) -> None:
        details = self.query_one("#details", Static)
        if (run := self._run) is not None:
            details.update(run_details(run))
        elif (preset := self._preset) is not None:
            details.update(preset_details(preset, is_measured=self._home.is_measured))
        else:
            details.update("")
        self.refresh_bindings()

    def _place_cursor(self) -> None:
        """Begin at the newest run; before there is one, at the demo."""
        if self._home.runs:
            self._runs.focus()
            return
        names = [preset.name for preset in self._home.presets]
        if DEMO in names:
            self._presets.highlighted = names.index(DEMO)
        self._presets.focus()

    @property
    def _runs(self) -> Shelf:
        return self.query_one("#runs", Shelf)

    @property
    def _presets(self) -> Shelf:
        return self.query_one("#presets", Shelf)

    @property
    def _run(self) -> RunLine | None:
        """The run under the cursor, where that is in the runs."""
        if self._presets.has_focus:
            return None
        path = self._runs.current
        return next((run for run in self._home.runs or () if run.path == path), None)

    @property
    def _preset(self) -> PresetLine | None:
        """The preset under the cursor, where that is in the presets."""
        if self._run is not None:
            return None
        name = self._presets.current
        return next((preset for preset in self._home.presets if preset.name == name), None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Tell the app what was chosen."""
        if event.option_list.id == "runs":
            self.post_message(self.RunChosen(event.option_id or ""))
        elif (preset := self._preset) is None or preset.fits is not False:
            self.post_message(self.PresetChosen(event.option_id or ""))
        else:
            self.run_worker(partial(self._start_misfit, preset), group="start", exclusive=True)

    async def _start_misfit(self, preset: PresetLine) -> None:
        """Ask before a preset is started that does not fit."""
        choice = await asking.ask(self, misfit_question(preset.verdict))
        if choice == CHANGE:
            self.action_new_run()
        elif choice == START:
            self.post_message(self.PresetChosen(preset.name))

    def on_option_list_option_highlighted(self) -> None:
        """What is known and what the keys do depends on the row."""
        self._draw_details()

    def on_descendant_focus(self) -> None:
        """And on the list."""
        self._draw_details()

    def on_input_changed(self) -> None:
        """Show what the filter lets through."""
        self._draw()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are only there while they do something."""
        run, doors = self._run, self._doors
        match action:
            case "continue":
                return run is not None and run.can_go_on
            case "delete_run":
                has_records = doors is not None and doors.records is not None
                return has_records and run is not None and not run.is_going_on
            case "reveal":
                return run is not None
            case "new_run":
                return doors is not None and doors.planner is not None
            case "filter" | "sort":
                return len(self._home.runs or ()) > 1 and not self.query_one("#filter").has_focus
            case "measure":
                return doors is not None and doors.measure is not None and self._may_measure
            case "end_filter":
                return self.query_one("#filter").display
            case _:
                return super().check_action(action, parameters)

    @property
    def _may_measure(self) -> bool:
        is_known = self._home.runs is None or self._home.is_measured
        return self._run is None and not is_known and not self._is_measuring

    def action_choose(self) -> None:
        """Choose the highlighted row; out of the filter go to what it found."""
        self.query_one("#problem").display = False
        if self.query_one("#filter").has_focus:
            self._runs.focus()
        elif self._presets.has_focus:
            self._presets.action_select()
        else:
            self._runs.action_select()

    def action_continue(self) -> None:
        """Go on with the highlighted run."""
        if (run := self._run) is not None:
            self.post_message(self.RunChosen(run.path, goes_on=True))

    def action_filter(self) -> None:
        """Ask for words to look for."""
        words = self.query_one("#filter", Input)
        words.display = True
        # At once, not soon: what is typed quickly must not be taken for other keys.
        self.set_focus(words)
        self.refresh_bindings()

    def action_end_filter(self) -> None:
        """Show all runs again."""
        words = self.query_one("#filter", Input)
        words.value = ""
        words.display = False
        self._runs.focus()
        self.refresh_bindings()

    def action_sort(self) -> None:
        """List runs in another order."""
        self._sort = SORTS[(SORTS.index(self._sort) + 1) % len(SORTS)]
        self._draw()

    def action_reveal(self) -> None:
        """Say where the run is, and put that on the clipboard."""
        if (run := self._run) is not None:
            asking.copy(self, run.path)

    def action_new_run(self) -> None:
        """Fill in a run of one's own, beginning from the preset under the cursor."""
        doors = self._doors
        if doors is None or doors.planner is None:
            return
        # Not before the first frame: its widgets take a while to import.
        from tui.new_run import NewRunScreen

        names = [preset.name for preset in self._home.presets]
        name = self._preset.name if self._preset is not None else DEMO
        preset = name if name in names else names[0]
        screen = NewRunScreen(doors.planner, names, preset, self._drafts.get(preset))
        asking.show(self, screen, self._take)

    def _take(self, drafted: Drafted | None) -> None:
        if drafted is None:
            return
        self._drafts[drafted.draft.preset] = drafted.draft
        if drafted.is_to_start:
            self.post_message(self.PresetChosen(drafted.draft.preset, drafted.draft))

    def action_delete_run(self) -> None:
        """Delete the highlighted run, once the person is sure."""
        if (run := self._run) is not None:
            self.run_worker(partial(self._delete, run), group="delete", exclusive=True)

    async def _delete(self, run: RunLine) -> None:
        if self._doors is None or (records := self._doors.records) is None:
            return
        taken = await asyncio.to_thread(records.run_bytes, run.path)
        if await asking.ask(self, delete_run_question(run, size(taken))) != DELETE:
            return
        try:
            freed = await asyncio.to_thread(records.delete_run, run.path)
        except LoraTuiError as error:
            self.show_problem(str(error))
            return
        self.notify(f"Deleted {run.name}: {size(freed)} came back.", markup=False)
        self.look_again()

    def action_measure(self) -> None:
        """Measure this machine's speed, so that plans can say how long they take."""
        if self._doors is None or self._doors.measure is None:
            return
        self._is_measuring = True
        self.notify("Measuring this machine for some seconds…")
        self.refresh_bindings()
        # A daemon, so that nobody who leaves meanwhile has to wait.
        threading.Thread(target=self._measure, args=(self._doors.measure,), daemon=True).start()

    def _measure(self, measure: Callable[[], None]) -> None:
        measure()
        self.post_message(self.Measured())

    class Measured(Message):
        """This machine's speed is known, or cannot be."""

    def on_home_screen_measured(self) -> None:
        """Show what runs take here."""
        self.look_again()

    def show_problem(self, words: str) -> None:
        """Say why the chosen thing could not be opened."""
        problem = self.query_one("#problem", Static)
        problem.update(f"✗ {words}")
        problem.display = True
