"""A question over the screen, asked only where something would be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui.words import duration

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.binding import BindingType

    from tui.controls import RunLine
    from tui.watch import RunWatch

STOP, STAY, DETACH = "stop", "stay", "detach"
DELETE, START, CHANGE = "delete", "start", "change"
"""What questions here are answered with."""
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
        &:ansi { background: ansi_default; }
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
    Question OptionList:nocolor > .option-list--option-highlighted { text-style: bold underline; }
    """

    def __init__(
        self, title: str, text: str, choices: tuple[Choice, ...], *, is_final: bool = False
    ) -> None:
        super().__init__()
        self._is_final = is_final
        """Whether enter alone must not do it: the cursor begins at what changes nothing."""
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
        if self._is_final:
            self.query_one(OptionList).highlighted = len(self._choices) - 1
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


class WordQuestion(ModalScreen[str]):
    """Asks for a word to be typed; answers with it, or with an empty one."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "keep", show=False)]
    DEFAULT_CSS = """
    WordQuestion {
        align: center middle;
        background: $background 60%;
        &:ansi { background: ansi_default; }
    }
    WordQuestion > Vertical {
        width: 58;
        max-width: 94%;
        height: auto;
        padding: 1 2;
        background: $surface;
        border: round $error;
        border-title-color: $error;
        border-title-style: bold;
        border-subtitle-color: $text-muted;
    }
    WordQuestion Input { margin-top: 1; border: none; height: 1; background: $panel; }
    """

    def __init__(self, word: str, text: str) -> None:
        super().__init__()
        self._word = word
        self._text = text

    def compose(self) -> ComposeResult:
        """Show the question and a place to type."""
        with Vertical() as box:
            box.border_title = "are you sure?"
            box.border_subtitle = "esc keeps it"
            yield Static(f"{self._text}\nType {self._word} to go ahead.", markup=False)
            yield Input(compact=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer once it is the word."""
        if event.value.strip().lower() == self._word:
            self.dismiss(self._word)

    def action_keep(self) -> None:
        """Answer with nothing."""
        self.dismiss("")


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


def _ways_out(loading_seconds: float | None) -> str:
    about = "" if loading_seconds is None else f", which takes about {duration(loading_seconds)}"
    return (
        f"{_WHAT_STOPPING_DOES} In the background it loads again{about}, and trains on with the "
        "same result, byte for byte."
    )


def leave_question(run: RunWatch) -> Question:
    """Ask before leaving a run that goes on."""
    if run.view.started is None:
        choices = (Choice(STOP, "s", "stop and leave"), Choice(STAY, "esc", "stay"))
        return Question("leave while it is loading?", "Nothing was trained yet.", choices)
    stop, stay = Choice(STOP, "s", "stop, save and leave"), Choice(STAY, "esc", "stay")
    if not run.controls.can_detach:
        return Question("leave while it trains?", _WHAT_STOPPING_DOES, (stop, stay))
    detach = Choice(DETACH, "d", "train on in the background")
    text = _ways_out(run.loading_seconds)
    return Question("leave while it trains?", text, (detach, stop, stay))


def delete_run_question(run: RunLine, taken: str) -> Question:
    """Ask before a run is gone for good."""
    what = f"{run.iteration:,} of {run.iterations:,} iterations and every checkpoint: {taken}."
    text = f"{run.name}, {run.status}\n{what}\nNothing brings them back."
    choices = (Choice(DELETE, "d", "delete it for good"), Choice(STAY, "esc", "keep it"))
    return Question("delete this run?", text, choices, is_final=True)


def misfit_question(verdict: str) -> Question:
    """Ask before a run is started that does not fit."""
    text = (
        f"It is {verdict}.\n"
        "It may become very slow, or the guard may stop it; what was reached is saved."
    )
    choices = (
        Choice(CHANGE, "c", "change its settings first"),
        Choice(START, "s", "start it all the same"),
        Choice(STAY, "esc", "back"),
    )
    return Question("it does not fit this machine", text, choices)


def delete_checkpoint_question(iteration: int) -> Question:
    """Ask before a checkpoint is gone for good."""
    choices = (Choice(DELETE, "d", "delete it for good"), Choice(STAY, "esc", "keep it"))
    text = f"{iteration:,}: nothing brings it back."
    return Question("delete this checkpoint?", text, choices, is_final=True)
