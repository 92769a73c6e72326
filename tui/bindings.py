"""Every key, once: the footer, the help screen and the command palette all read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.binding import Binding

if TYPE_CHECKING:
    from textual.screen import Screen

Place = Literal["run", "chart", "panes", "pane", "back", "app", "home"]
"""What a key belongs to: the table is cut up by it."""

SECTIONS: dict[str, tuple[Place, ...]] = {
    "The run": ("run",),
    "The loss curve": ("chart",),
    "Moving about": ("panes", "pane", "back", "home"),
    "lora-tui": ("app",),
}
"""The parts of the help screen, in order."""


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that a key does."""

    place: Place
    id: str
    """Stays the same for good, so that a settings file can move the key."""
    keys: str
    """Textual's names, with commas between alternatives."""
    shown: str
    """How the key is written for people."""
    action: str
    label: str
    """One or two words, for the footer and the palette."""
    help: str
    """One sentence, for the help screen and the palette."""
    in_footer: bool = False
    is_command: bool = True
    """Whether the command palette offers it."""
    has_priority: bool = False
    """Whether it works whatever has the focus."""

    @property
    def binding(self) -> Binding:
        """The key as Textual knows it."""
        return Binding(
            self.keys,
            self.action,
            self.label,
            show=self.in_footer,
            key_display=self.shown,
            priority=self.has_priority,
            tooltip=self.help,
            id=self.id,
        )


KEYS: tuple[Key, ...] = (
    Key("run", "run.pause", "space", "space", "pause", "pause",
        "Stand still after the step in flight; again: go on", in_footer=True),
    Key("run", "run.resume", "space", "space", "resume", "resume",
        "", in_footer=True),
    Key("run", "run.checkpoint", "c", "c", "checkpoint", "checkpoint",
        "Save the adapters and the optimiser now", in_footer=True),
    Key("run", "run.evaluate", "e", "e", "evaluate", "evaluate",
        "Measure the validation loss now", in_footer=True),
    Key("run", "run.sample", "s", "s", "sample", "sample",
        "Let the model answer the fixed prompts now", in_footer=True),
    Key("run", "run.policy", "y", "y", "next_policy", "at yellow",
        "What to do when memory runs short: watch, protect or abort"),
    Key("run", "run.abort", "a", "a", "abort", "abort",
        "Stop this run: asks first, saves, and stays here", in_footer=True),
    Key("run", "run.detach", "d", "d", "detach", "detach",
        "Hand the run over to a process in the background, and leave"),
    Key("run", "run.continue", "r", "r", "continue", "go on",
        "Go on with a run that ended early", in_footer=True),
    Key("chart", "chart.log", "l", "l", "toggle_log", "log scale",
        "Logarithmic or plain scale"),
    Key("chart", "chart.smoother", "plus,equals_sign", "+ -", "smooth(1)", "smoother",
        "Average over more steps, or fewer"),
    Key("chart", "chart.rougher", "minus", "-", "smooth(-1)", "rougher",
        ""),
    Key("chart", "chart.axis", "x", "x", "next_axis", "axis",
        "Count by iterations, tokens or hours"),
    Key("panes", "panes.next", "tab", "tab", "app.focus_next", "next pane",
        "Go to the next pane, with shift to the one before", is_command=False),
    Key("panes", "panes.previous", "shift+tab", "shift+tab", "app.focus_previous", "pane before",
        "", is_command=False),
    Key("panes", "panes.open", "enter", "enter", "open_pane", "whole screen",
        "Give the pane the whole screen", is_command=False),
    Key("pane", "pane.up", "up,k", "↑ ↓", "scroll(-1)", "up",
        "Scroll a pane that has more to show", is_command=False),
    Key("pane", "pane.down", "down,j", "", "scroll(1)", "down", "", is_command=False),
    Key("pane", "pane.page_up", "pageup", "page", "scroll_page(-1)", "page up",
        "Scroll by a whole screen", is_command=False),
    Key("pane", "pane.page_down", "pagedown", "", "scroll_page(1)", "page down", "",
        is_command=False),
    Key("back", "back.close", "escape", "esc", "go_back", "back",
        "Back to all panes, or home from a run that is over", in_footer=True, is_command=False),
    Key("home", "home.open", "enter", "enter", "choose", "start or open",
        "On the home screen: start the preset or open the run", in_footer=True, is_command=False,
        has_priority=True),
    Key("home", "home.continue", "r", "r", "continue", "go on",
        "", in_footer=True, is_command=False),
    Key("app", "app.quit", "q", "q", "app.leave", "quit",
        "Leave; asks while a run goes on", in_footer=True),
    Key("app", "app.help", "question_mark", "?", "app.help", "help",
        "This page", in_footer=True),
    Key("app", "app.palette", "ctrl+p", "ctrl+p", "app.command_palette", "commands",
        "Find any command by name", is_command=False),
    Key("app", "app.interrupt", "ctrl+c,ctrl+q", "ctrl+c", "app.interrupt", "stop and leave",
        "Asks like q; a second time it saves, stops and leaves", is_command=False,
        has_priority=True),
    Key("app", "app.suspend", "ctrl+z", "ctrl+z", "app.suspend_run", "suspend",
        "Back to the shell for now: training stands still too, until fg"),
)  # fmt: skip


def active_commands(screen: Screen[object]) -> list[Key]:
    """Give what the palette offers on a screen: the keys that would do something now."""
    active = {active.binding.id for active in screen.active_bindings.values()}
    return [key for key in KEYS if key.is_command and key.id in active]


def keys(*places: Place) -> list[Key]:
    """Give the part of the table that belongs to some places."""
    return [key for key in KEYS if key.place in places]


def bindings(*places: Place) -> list[Binding]:
    """Give the part of the table that belongs to some places, as Textual knows it."""
    return [key.binding for key in keys(*places)]
