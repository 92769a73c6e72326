"""A question over the screen, asked only where something would be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.words import duration

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.watch import RunWatch


STOP, STAY, DETACH = "stop", "stay", "detach"
"""What every question here is answered with."""
_WHAT_STOPPING_DOES = "The step in flight is dropped; what was reached is saved first."


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer to a question."""

    id: str
    key: str
    """The letter that gives this answer."""
    text: str


class Question(ModalScreen[str]):
    """Asks, and answers with the id of a choice; escape gives the last, which changes nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "choose_last", show=False)]
    DEFAULT_CSS = """
    Question {
        align: center middle;
        background: $background 60%;
    }
    Question > Vertical {
        width: 58;
        max-width: 94%;
        height: auto;
        padding: 1 2;
        background: $surface;
        border: round $primary;
        border-title-color: $primary;
        border-title-style: bold;
    }
    Question OptionList {
        height: auto;
        margin-top: 1;
        padding: 0;
        border: none;
        background: transparent;
        &:focus { border: none; background-tint: transparent; }
    }
    Question OptionList:nocolor > .option-list--option-highlighted { text-style: bold reverse; }
    """

    def __init__(self, title: str, text: str, choices: tuple[Choice, ...]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Show the question and its answers."""
        with Vertical() as box:
            box.border_title = self._title
            yield Static(self._text, markup=False)
            yield OptionList(
                *(Option(f"{choice.key:>3}  {choice.text}", choice.id) for choice in self._choices),
                markup=False,
            )

    def on_mount(self) -> None:
        """Let each answer's letter give it."""
        for choice in self._choices:
            self._bindings.bind(choice.key, f"choose('{choice.id}')", show=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer with the chosen row."""
        self.dismiss(event.option_id or "")

    def action_choose(self, choice: str) -> None:
        """Answer."""
        self.dismiss(choice)

    def action_choose_last(self) -> None:
        """Answer with the choice that changes nothing."""
        self.dismiss(self._choices[-1].id)


def abort_question() -> Question:
    """Ask before a run is stopped."""
    choices = (Choice(STOP, "a", "stop and save"), Choice(STAY, "esc", "go on training"))
    return Question("stop this run?", _WHAT_STOPPING_DOES, choices)


def detach_question(loading_seconds: float | None) -> Question:
    """Say what handing a run over costs, and ask."""
    choices = (Choice(DETACH, "d", "detach"), Choice(STAY, "esc", "stay"))
    return Question("train on in the background?", _hand_over(loading_seconds), choices)


def _hand_over(loading_seconds: float | None) -> str:
    about = "" if loading_seconds is None else f", about {duration(loading_seconds)}"
    return (
        "Saves, and a process of its own loads the model again and trains on. It costs the step in "
        f"flight and the loading{about}; the result is the same, byte for byte."
    )


def leave_question(run: RunWatch) -> Question:
    """Ask before leaving a run that goes on."""
    if run.view.started is None:
        choices = (Choice(STOP, "s", "stop and leave"), Choice(STAY, "esc", "stay"))
        return Question("leave while it is loading?", "Nothing was trained yet.", choices)
    detach = (Choice(DETACH, "d", "train on in the background"),) if run.controls.can_detach else ()
    stop = Choice(STOP, "s", "stop, save and leave")
    choices = (*detach, stop, Choice(STAY, "esc", "stay"))
    return Question("leave while it trains?", _WHAT_STOPPING_DOES, choices)
