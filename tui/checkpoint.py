"""One checkpoint: all that is known of it, what to do with it, and another beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui.words import age, day, loss, short_count, size, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from engine.events import CheckpointSaved
    from tui.panes.checkpoints import Act
    from tui.records import CheckpointFacts

BOX = """
    {name} {{ align: center middle; background: $background 60%; }}
    {name}:ansi {{ background: ansi_default; }}
    {name} > .box {{
        width: 76; max-width: 96%; height: auto; max-height: 96%; padding: 0 2;
        background: $surface; border: round $primary;
        border-title-color: $primary; border-title-style: bold;
        border-subtitle-color: $text-muted;
        scrollbar-size-vertical: 1;
    }}
"""
_LABEL = 9
_ROOM = 60
_COLUMN = 16
_MUTED = "$foreground 60%"


@dataclass(frozen=True, slots=True)
class Seen:
    """A checkpoint as the journal and its own facts tell it."""

    saved: CheckpointSaved
    facts: CheckpointFacts | None
    """None where its files are damaged or gone."""
    is_best: bool
    path: str
    command: str
    """What continues from it in a shell."""
    measured_at: int | None = None
    """The iteration after which its loss was measured; None where that is not known."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One thing to do with it."""

    act: Act
    key: str
    words: str
    refusal: str = ""
    """Why it cannot be done now; empty where it can."""


class CheckpointScreen(ModalScreen[str]):
    """Tells all about a checkpoint; answers with what to do with it, or with nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "close", show=False)]
    DEFAULT_CSS = (
        BOX.format(name="CheckpointScreen")
        + """
    CheckpointScreen OptionList {
        height: auto; margin-top: 1; padding: 0; border: none; background: transparent;
        &:focus { border: none; background-tint: transparent; }
    }
    CheckpointScreen OptionList:nocolor > .option-list--option-highlighted {
        text-style: bold underline;
    }
    """
    )

    def __init__(self, seen: Seen, offers: Sequence[Offer], now: float) -> None:
        super().__init__()
        self._seen = seen
        self._offers = offers
        self._now = now

    def compose(self) -> ComposeResult:
        """Show what is known and what can be done."""
        with Vertical(classes="box") as box:
            star = " ★ best" if self._seen.is_best else ""
            box.border_title = f"checkpoint {self._seen.saved.iteration:,}{star}"
            box.border_subtitle = "esc closes"
            yield Static(about(self._seen, self._now), markup=False)
            yield OptionList(*(_option(offer) for offer in self._offers), markup=False)

    def on_mount(self) -> None:
        """Let each offer's key take it."""
        for offer in self._offers:
            if not offer.refusal:
                self._bindings.bind(offer.key, f"take('{offer.act}')", show=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer with the chosen row."""
        self.dismiss(event.option_id or "")

    def action_take(self, act: str) -> None:
        """Answer."""
        self.dismiss(act)

    def action_close(self) -> None:
        """Answer with nothing."""
        self.dismiss("")


def _option(offer: Offer) -> Option:
    words = f"{offer.words}: {offer.refusal}" if offer.refusal else offer.words
    shown = {"delete": "del"}.get(offer.key, offer.key)
    return Option(f"{shown:>3}  {words}", offer.act, disabled=bool(offer.refusal))


def about(seen: Seen, now: float) -> Content:
    """Say all that is known of a checkpoint."""
    saved, facts = seen.saved, seen.facts
    ago = age(now - saved.time)
    rows = [
        ("loss", f"{loss(saved.val_loss)} on the validation rows{_measured(seen)}"),
        ("saved", f"{day(saved.time, now)}, {'just now' if ago == 'now' else f'{ago} ago'}"),
        ("why", saved.reason),
        ("size", size(saved.bytes)),
        ("trained", f"{facts.trained_tokens:,} tokens" if facts else "its files cannot be read"),
        ("file", seen.path),
        ("shell", seen.command),
    ]
    lines: list[Content] = []
    for label, words in rows:
        first, *more = wrap(words, _ROOM) or [""]
        lines.append(Content.assemble((f"{label:<{_LABEL}}", _MUTED), first))
        lines += [Content(" " * _LABEL + row) for row in more]
    return Content("\n").join(lines)


def _measured(seen: Seen) -> str:
    """Say when its loss was measured, where that was earlier."""
    at = seen.measured_at
    return "" if at is None or at == seen.saved.iteration else f", measured at {at:,}"


class CompareScreen(ModalScreen[None]):
    """Sets a checkpoint beside another; the arrow keys choose which."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", show=False),
        Binding("left,up", "other(-1)", show=False),
        Binding("right,down", "other(1)", show=False),
    ]
    DEFAULT_CSS = BOX.format(name="CompareScreen")

    def __init__(self, seen: Seen, others: Sequence[Seen], now: float) -> None:
        super().__init__()
        self._seen = seen
        self._others = others
        self._at = 0
        self._now = now

    def compose(self) -> ComposeResult:
        """Show the table."""
        with VerticalScroll(classes="box") as box:
            box.border_title = f"checkpoint {self._seen.saved.iteration:,} beside another"
            box.border_subtitle = "← → another · esc closes"
            yield Static(id="table", markup=False)

    def on_mount(self) -> None:
        """Fill the table."""
        self.action_other(0)

    def action_other(self, steps: int) -> None:
        """Take the next one for comparison."""
        self._at = (self._at + steps) % len(self._others)
        table = beside(self._seen, self._others[self._at], self._now)
        self.query_one("#table", Static).update(table)


def beside(one: Seen, other: Seen, now: float) -> Content:
    """Set two checkpoints side by side; what differs is marked besides its colour."""
    rows = [("", _name(one), _name(other))]
    rows += zip(
        ("val loss", "trained", "size", "saved", "why"), _figures(one, now), _figures(other, now),
        strict=True,
    )  # fmt: skip
    lines = [_pair(*row) for row in rows]
    if one.facts and other.facts:
        theirs = dict(other.facts.settings)
        lines += [_pair(label, value, theirs.get(label, "")) for label, value in one.facts.settings]
    else:
        lines.append(Content.styled("Settings cannot be read: a file is damaged.", _MUTED))
    return Content("\n").join([*lines, Content(""), _difference(one, other)])


def _name(seen: Seen) -> str:
    return f"{'★ ' if seen.is_best else ''}{seen.saved.iteration:,}"


def _figures(seen: Seen, now: float) -> tuple[str, ...]:
    tokens = f"{short_count(seen.facts.trained_tokens)} tokens" if seen.facts else "n/a"
    saved = seen.saved
    return loss(saved.val_loss), tokens, size(saved.bytes), day(saved.time, now), saved.reason


def _pair(label: str, left: str, right: str) -> Content:
    is_same = left == right
    return Content.assemble(
        (f"{label:<{_COLUMN - 1}}", _MUTED),
        (f"{_end(left):<24} ", "bold" if not label else ""),
        (f"{'  ' if is_same or not label else '≠ '}{_end(right)}", "" if is_same else "bold"),
    )


def _end(text: str) -> str:
    """Keep the telling end of a long path."""
    return text if len(text) <= 24 else f"…{text[-23:]}"


def _difference(one: Seen, other: Seen) -> Content:
    mine, theirs = one.saved.val_loss, other.saved.val_loss
    if mine is None or theirs is None:
        return Content.styled("One of them was saved before the first evaluation.", _MUTED)
    gap = abs(mine - theirs)
    if gap == 0:
        return Content("Both have the same validation loss.")
    better = one if mine < theirs else other
    return Content(f"{better.saved.iteration:,} is better by {loss(gap)} on the validation rows.")
