"""The home screen: presets to start, runs to open, and what machine this is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer, OptionList, Static
from textual.widgets.option_list import Option

from tui.bindings import bindings
from tui.standing import standing_span
from tui.words import loss, shorten

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.controls import HomeData, PresetLine, RunLine

LOGO = "█   █▀█ █▀█ ▄▀█   ▀█▀ █ █ █\n█▄▄ █▄█ █▀▄ █▀█    █  █▄█ █"
SENTENCE = "Fine-tune a language model overnight, and watch it from here."
FIRST_START = (
    "New here? The demo trains a tiny model in about a minute and needs no network.\n"
    "Everything a run writes stays in one folder; stopping saves, and nothing is ever lost."
)
_NAME_WIDTH = 26
_PRESET_WIDTH = 14
_STATUS_WIDTH = 15
_PROGRESS_WIDTH = 17
_STYLES = {"good": "$text-success", "warn": "$text-warning", "bad": "$text-error"}


class HomeScreen(Screen[None]):
    """Where ``lora-tui`` without arguments begins."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("home")]
    DEFAULT_CSS = """
    HomeScreen {
        align: center top;
        background: $background;
        #page { width: 1fr; max-width: 96; height: 1fr; padding: 1 2 0 2; }
        #logo { color: $primary; height: 2; }
        #sentence { color: $foreground; height: auto; }
        #first { color: $text-muted; height: auto; margin-top: 1; }
        #problem { color: $text-error; height: auto; display: none; margin-top: 1; }
        OptionList {
            height: 1fr;
            margin-top: 1;
            padding: 0;
            border: none;
            background: transparent;
            scrollbar-size-vertical: 1;
            text-wrap: nowrap;
            text-overflow: ellipsis;
            &:focus { border: none; background-tint: transparent; }
        }
        OptionList:nocolor > .option-list--option-highlighted { text-style: bold reverse; }
        #machine-line { color: $text-muted; height: 1; }
        Footer { background: $surface; }
    }
    """

    @dataclass
    class PresetChosen(Message):
        """A preset is to be started."""

        name: str

    @dataclass
    class RunChosen(Message):
        """A run is to be opened, or gone on with."""

        path: str
        goes_on: bool = False

    def __init__(self, home: HomeData) -> None:
        super().__init__()
        self._home = home

    def compose(self) -> ComposeResult:
        """Lay out the page."""
        with Vertical(id="page"):
            yield Static(LOGO, id="logo", markup=False)
            yield Static(SENTENCE, id="sentence", markup=False)
            if not self._home.runs:
                yield Static(FIRST_START, id="first", markup=False)
            yield Static(id="problem", markup=False)
            yield OptionList(*self._options())
            yield Static(self._home.machine, id="machine-line", markup=False)
        yield Footer(compact=True, show_command_palette=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Tell the app what was chosen."""
        kind, _, name = (event.option_id or "").partition(":")
        self.post_message(self.PresetChosen(name) if kind == "preset" else self.RunChosen(name))

    def action_choose(self) -> None:
        """Choose the highlighted row."""
        self.query_one(OptionList).action_select()

    def action_continue(self) -> None:
        """Go on with the highlighted run."""
        if (run := self._highlighted) is not None:
            self.post_message(self.RunChosen(run.path, goes_on=True))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are only there while they do something."""
        if action == "continue":
            return (run := self._highlighted) is not None and run.can_go_on
        return super().check_action(action, parameters)

    def on_option_list_option_highlighted(self) -> None:
        """What the keys do depends on the row."""
        self.refresh_bindings()

    @property
    def _highlighted(self) -> RunLine | None:
        """The run under the cursor, if it is one."""
        option = self.query_one(OptionList).highlighted_option
        kind, _, path = ((option.id if option else None) or "").partition(":")
        return next((run for run in self._home.runs if kind == "run" and run.path == path), None)

    def show_problem(self, words: str) -> None:
        """Say why the chosen thing could not be opened."""
        problem = self.query_one("#problem", Static)
        problem.update(f"✗ {words}")
        problem.display = True

    def _options(self) -> list[Option]:
        options = [_heading("Presets")]
        options += [Option(_preset(p), f"preset:{p.name}") for p in self._home.presets]
        if self._home.runs:
            options.append(_heading("Runs on this machine", is_first=False))
            options += [Option(_run(run), f"run:{run.path}") for run in self._home.runs]
        return options


def _heading(text: str, *, is_first: bool = True) -> Option:
    gap = "" if is_first else "\n"
    return Option(Content.styled(f"{gap}{text}", "bold $text-muted"), disabled=True)


def _preset(preset: PresetLine) -> Content:
    return Content.assemble(
        "  ",
        (f"{shorten(preset.name, _PRESET_WIDTH):<{_PRESET_WIDTH}}  ", "bold"),
        preset.description,
    )


def _run(run: RunLine) -> Content:
    status, style = standing_span(run.status)
    done = f"{run.iteration:,} / {run.iterations:,}"
    return Content.assemble(
        "  ",
        (f"{shorten(run.name, _NAME_WIDTH):<{_NAME_WIDTH}}  ", "bold"),
        (f"{status:<{_STATUS_WIDTH}}", _STYLES.get(style, "$text-muted")),
        f"{done:>{_PROGRESS_WIDTH}}",
        (_figure(run), "$text-muted"),
    )


def _figure(run: RunLine) -> str:
    """What counts most: of an interrupted run what is safe, else the validation loss."""
    if run.status == "interrupted":
        return "  saved " + (
            "nothing" if run.saved_iteration is None else f"{run.saved_iteration:,}"
        )
    return f"  val {loss(run.val_loss)}" if run.val_loss is not None else ""
