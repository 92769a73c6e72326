"""The chat screen: what was trained and its base answer the same words, side by side."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from engine.conversation import (
    SIDES,
    Answered,
    Conversation,
    Piece,
    Ready,
    Sampling,
    Told,
)
from engine.errors import LoraTuiError
from tui.bindings import bindings
from tui.footer import KeyFooter
from tui.words import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import App, ComposeResult
    from textual.binding import BindingType

    from engine.conversation import Side, TalkEvent
    from engine.use.chosen import Chosen

TICK = 0.05
"""Seconds between two looks at what was said."""
TEMPERATURES = (0.0, 0.4, 0.7, 1.0, 1.3)
TOP_PS = (1.0, 0.95, 0.9, 0.8)
MAX_TOKENS = 512
_ENDINGS = {
    "end": "",
    "length": " · cut at its longest",
    "stopped": " · stopped",
    "time": " · out of time",
}


class TalkControls(Protocol):
    """Somebody to talk to."""

    chosen: Chosen
    choices: list[Chosen]

    @property
    def events(self) -> Sequence[TalkEvent]:
        """Everything that happened so far; it only grows."""
        ...

    @property
    def needed_bytes(self) -> int:
        """What talking takes, about."""
        ...

    def start(self) -> None:
        """Begin to load."""
        ...

    def ask(self, conversation: Conversation, sides: Sequence[Side], sampling: Sampling) -> None:
        """Let sides answer what was said."""
        ...

    def switch(self, chosen: Chosen) -> None:
        """Talk to another checkpoint."""
        ...

    def stop(self) -> None:
        """End the answer in flight."""
        ...

    def close(self) -> None:
        """End, and give memory back."""
        ...


class ChatScreen(Screen[None]):
    """A conversation with a checkpoint, and with its base beside it."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings("chat")]
    DEFAULT_CSS = """
    ChatScreen {
        background: $background;
        #chat-title { height: 1; background: $surface; text-style: bold; padding: 0 1; }
        #chat-status { height: auto; max-height: 4; padding: 0 1; color: $text-muted; }
        #chat-status.-bad { color: $text-error; }
        #sides { height: 1fr; }
        .side {
            width: 1fr;
            height: 1fr;
            padding: 0 1;
            border: round $foreground 30%;
            border-title-color: $foreground;
            border-title-style: bold;
            border-subtitle-color: $text-muted;
            scrollbar-size-vertical: 1;
        }
        .side Static { height: auto; }
        #base-side { color: $text-muted; }
        Input {
            height: 3; border: round $primary; background: $background;
            &:focus { border: round $primary; }
        }
        Footer { background: $surface; }
    }
    """

    def __init__(self, talk: TalkControls, *, is_alone: bool = False) -> None:
        """Make the screen.

        Args:
            talk: not started yet.
            is_alone: whether there is no other screen to go back to.
        """
        super().__init__()
        self._talk = talk
        self._is_alone = is_alone
        self._conversation = Conversation()
        self._seen = 0
        self._waiting: set[Side] = set()
        """Sides that still answer."""
        self._is_ready = False
        self._has_base = True
        self._shows_base = True
        self._temperature = 0
        self._top_p = 0
        self._asked = 0
        self._said = ""
        self._needed = ""
        """What talking takes, in words."""

    def compose(self) -> ComposeResult:
        """Lay out both sides over a line to write in."""
        yield Static(id="chat-title", markup=False)
        with Horizontal(id="sides"):
            for side in SIDES:
                with VerticalScroll(id=f"{side}-side", classes="side", can_focus=False) as box:
                    box.border_title = side
                    yield Static(id=f"{side}-said", markup=False)
        yield Static(id="chat-status", markup=False)
        yield Input(placeholder="Say something, and enter")
        yield KeyFooter()

    def on_mount(self) -> None:
        """Say what it takes, and begin to load."""
        self._show_title()
        try:
            self._needed = f"Talking takes about {size(self._talk.needed_bytes)} of memory."
        except LoraTuiError as error:
            self._fail(str(error))
            return
        self._tell(f"Loading {self._talk.chosen.label}… {self._needed}")
        self.query_one(Input).focus()
        self._talk.start()
        self.set_interval(TICK, self.look)

    def on_unmount(self) -> None:
        """Give the memory back; a reply in flight ends."""
        self._talk.close()

    def look(self) -> None:
        """Show what was said since the last look."""
        events = self._talk.events
        new = events[self._seen :]
        self._seen += len(new)
        for event in new:
            self._take(event)
        if any(isinstance(event, Piece) for event in new):
            self._draw()
        if new:
            self.refresh_bindings()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Let both sides answer."""
        text = event.value.strip()
        if not text or self._waiting or not self._is_ready:
            return
        event.input.clear()
        self._conversation.say(text)
        self._said = text
        self._waiting = set(self._sides)
        self._asked += 1
        sampling = Sampling(
            MAX_TOKENS,
            TEMPERATURES[self._temperature],
            TOP_PS[self._top_p],
            seed=self._asked,
        )
        self._tell("answering…")
        self._draw()
        self._talk.ask(self._conversation, self._sides, sampling)
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys are only there while they do something."""
        match action:
            case "stop_reply":
                return bool(self._waiting)
            case "leave_chat":
                return not self._waiting
            case "copy_reply":
                return any(self._conversation.answer(side) for side in SIDES)
            case "next_checkpoint":
                return self._is_ready and not self._waiting and len(self._talk.choices) > 1
            case "toggle_base":
                return self._has_base and not self._waiting
            case "clear_chat":
                return not self._waiting and bool(self._conversation.turns["adapter"])
            case _:
                return super().check_action(action, parameters)

    def action_stop_reply(self) -> None:
        """End the answer in flight; what was said stays."""
        self._talk.stop()

    def action_leave_chat(self) -> None:
        """Go back."""
        if self._is_alone:
            self._app.exit()
        else:
            self.dismiss()

    def action_copy_reply(self) -> None:
        """Put the newest answers on the clipboard."""
        said: dict[Side, str] = {side: self._conversation.answer(side) for side in SIDES}
        parts = [said[side] for side in self._sides if said[side]]
        if len(parts) > 1:
            parts = [f"{self._name_of(side)}:\n{said[side]}" for side in SIDES]
        self._app.copy_to_clipboard("\n\n".join(parts))
        self._tell("Copied.")

    def action_next_checkpoint(self) -> None:
        """Talk to the next checkpoint, after the last to the first."""
        choices = self._talk.choices
        at = next((i for i, c in enumerate(choices) if c.label == self._talk.chosen.label), -1)
        chosen = choices[(at + 1) % len(choices)]
        self._is_ready = False
        self._tell(f"Changing to {chosen.label}…")
        self._talk.switch(chosen)
        self._show_title()

    def action_toggle_base(self) -> None:
        """Show the base beside, or not."""
        self._shows_base = not self._shows_base
        self._show_title()

    def action_next_temperature(self) -> None:
        """Draw more freely, after the last the likeliest again."""
        self._temperature = (self._temperature + 1) % len(TEMPERATURES)
        self._show_title()

    def action_next_top_p(self) -> None:
        """Draw from less of the probability, after the last from all."""
        self._top_p = (self._top_p + 1) % len(TOP_PS)
        self._show_title()

    def action_clear_chat(self) -> None:
        """Begin a new conversation."""
        self._conversation.clear()
        for side in SIDES:
            self._side(side).border_subtitle = ""
        self._draw()

    @property
    def _app(self) -> App[None]:
        return cast("App[None]", self.app)  # pyright: ignore[reportUnknownMemberType]

    @property
    def _has_both(self) -> bool:
        return self._has_base and self._shows_base

    @property
    def _sides(self) -> tuple[Side, ...]:
        return SIDES if self._has_both else ("adapter",)

    def _take(self, event: TalkEvent) -> None:
        match event:
            case Ready():
                self._is_ready = True
                self._has_base = event.has_base
                alone = "" if event.has_base else " Whole layers are trained: no base beside it."
                self._tell(f"Ready. {self._needed}{alone}")
                self._show_title()
            case Piece():
                self._conversation.add(event)
            case Answered():
                self._waiting.discard(event.side)
                words = f"{event.tokens_per_second:.1f} tok/s{_ENDINGS[event.ending]}"
                self._side(event.side).border_subtitle = words
                # A stop also keeps the sides that had not begun from answering.
                if event.ending == "stopped":
                    self._waiting.clear()
                if not self._waiting:
                    self._tell("")
            case Told(is_error=True):
                self._take_back()
                self._fail(event.message)
            case Told():
                self._tell(event.message)

    def _take_back(self) -> None:
        """Put what nobody could answer back into the line, to be changed."""
        if self._waiting:
            self._waiting.clear()
            self._conversation.take_back()
            self.query_one(Input).value = self._said
            self._draw()

    def _draw(self) -> None:
        for side in SIDES:
            box = self._side(side)
            said = [_turn(turn["role"], turn["content"]) for turn in self._conversation.turns[side]]
            self.query_one(f"#{side}-said", Static).update(Content("\n").join(said))
            box.call_after_refresh(partial(box.scroll_end, animate=False))

    def _show_title(self) -> None:
        temperature, top_p = TEMPERATURES[self._temperature], TOP_PS[self._top_p]
        drawn = f"temperature {temperature:g}" if temperature else "temperature 0, the likeliest"
        self.query_one("#chat-title", Static).update(
            f"chat · {self._talk.chosen.label} · {drawn} · top-p {top_p:g}"
        )
        for side in SIDES:
            self._side(side).border_title = self._name_of(side)
        self._side("base").display = self._has_both

    def _name_of(self, side: Side) -> str:
        chosen = self._talk.chosen
        if side == "base":
            return f"base {chosen.config.model.rstrip('/').rpartition('/')[2]}"
        return chosen.label

    def _side(self, side: Side) -> VerticalScroll:
        return self.query_one(f"#{side}-side", VerticalScroll)

    def _tell(self, words: str) -> None:
        status = self.query_one("#chat-status", Static)
        status.set_class(False, "-bad")
        status.update(words)

    def _fail(self, words: str) -> None:
        status = self.query_one("#chat-status", Static)
        status.set_class(True, "-bad")
        status.update(words)


def _turn(role: str, text: str) -> Content:
    if role == "user":
        return Content.assemble(("› ", "bold $primary"), (f"{text}\n", "bold"))
    return Content(f"{text.strip()}\n")
