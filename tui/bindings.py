"""Every key, once: the footer, the help screen and the command palette all read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from textual.binding import Binding

if TYPE_CHECKING:
    from textual.screen import Screen

Place = Literal[
    "run", "chart", "panes", "pane", "checkpoint", "back", "app", "home", "filter", "form", "chat"
]  # fmt: skip
"""What a key belongs to: the table is cut up by it."""

SECTIONS: dict[str, tuple[Place, ...]] = {
    "The run": ("run",),
    "The loss curve": ("chart",),
    "Moving about": ("panes", "pane", "back"),
    "A checkpoint": ("checkpoint",),
    "Talking": ("chat",),
    "Home": ("home", "filter"),
    "A new run": ("form",),
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
    Key("run", "run.detach", "d", "d", "app.detach", "detach",
        "Hand the run over to a process in the background, and leave"),
    Key("run", "run.continue", "r", "r", "continue", "go on",
        "Go on with a run that ended early", in_footer=True),
    Key("run", "run.report", "m", "m", "report", "report",
        "The report of a run that is over, and what to try next", in_footer=True),
    Key("run", "run.try", "t", "t", "try", "try it",
        "Talk to the newest checkpoint; pause a run first"),
    Key("chart", "chart.log", "l", "l", "toggle_log", "log scale",
        "Logarithmic or plain scale"),
    Key("chart", "chart.smoother", "plus,equals_sign", "+ -", "smooth(1)", "smoother",
        "Average over more steps, or fewer; at most a tenth of the run"),
    Key("chart", "chart.rougher", "minus", "-", "smooth(-1)", "rougher",
        ""),
    Key("chart", "chart.axis", "x", "x", "next_axis", "axis",
        "Count by iterations, tokens or hours"),
    Key("chart", "chart.rates", "v", "v", "toggle_rates", "norm and rate",
        "Gradient norm and learning rate; again: the loss"),
    Key("chart", "chart.closer", "z", "z", "zoom(1)", "closer",
        "Look closer at the curve; the wheel does too"),
    Key("chart", "chart.farther", "Z", "Z", "zoom(-1)", "farther",
        "Look from farther away"),
    Key("chart", "chart.whole", "0", "0", "show_whole", "whole run",
        "Show the whole run again"),
    Key("chart", "chart.earlier", "left", "← →", "move(-1)", "earlier",
        "Move a close look; in a run that is over: go back in time",
        is_command=False),
    Key("chart", "chart.later", "right", "→", "move(1)", "later", "", is_command=False),
    Key("chart", "chart.step_earlier", "shift+left", "shift+← →", "move_step(-1)", "step earlier",
        "In a run that is over: go back or forth by one iteration", is_command=False),
    Key("chart", "chart.step_later", "shift+right", "", "move_step(1)", "step later", "",
        is_command=False),
    Key("chart", "chart.first", "home", "home end", "move_to(0)", "beginning",
        "In a run that is over: its beginning, its end", is_command=False),
    Key("chart", "chart.last", "end", "end", "move_to(1)", "end", "", is_command=False),
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
    Key("panes", "panes.filter", "slash", "/", "filter_log", "filter the log",
        "Show only what the log says about something"),
    Key("back", "back.close", "escape", "esc", "go_back", "back",
        "Back to all panes, or home from a run that is over", in_footer=True, is_command=False),
    Key("checkpoint", "checkpoint.open", "enter", "enter", "open_checkpoint", "open",
        "All about the checkpoint, and what to do with it", in_footer=True, is_command=False),
    Key("checkpoint", "checkpoint.resume", "r", "r", "resume_checkpoint", "new run",
        "Begin a new run that goes on from there", in_footer=True),
    Key("checkpoint", "checkpoint.try", "t", "t", "try_checkpoint", "try it",
        "Talk with the model as it was then", in_footer=True),
    Key("checkpoint", "checkpoint.fuse", "f", "f", "fuse_checkpoint", "fuse",
        "Make a model of its own from it", in_footer=True),
    Key("checkpoint", "checkpoint.compare", "v", "v", "compare_checkpoint", "compare",
        "Set its losses and settings beside another's", in_footer=True),
    Key("checkpoint", "checkpoint.reveal", "o", "o", "reveal_checkpoint", "where",
        "Say where its file is, and copy that"),
    Key("checkpoint", "checkpoint.delete", "delete,backspace", "del", "delete_checkpoint",
        "delete", "Delete it; asks first", in_footer=True),
    Key("home", "home.open", "enter", "enter", "choose", "open",
        "Open the run or start the preset under the cursor", in_footer=True, is_command=False,
        has_priority=True),
    Key("home", "home.new", "n", "n", "new_run", "new run",
        "Fill in a run of your own, with its plan beside it", in_footer=True),
    Key("home", "home.continue", "r", "r", "continue", "go on",
        "Go on with a run that ended early", in_footer=True),
    Key("home", "home.delete", "delete,backspace", "del", "delete_run", "delete",
        "Delete the run and its checkpoints; asks first", in_footer=True),
    Key("home", "home.reveal", "o", "o", "reveal", "where",
        "Say where the run's folder is, and copy that"),
    Key("home", "home.filter", "slash", "/", "filter", "filter",
        "Show only the runs that have some words", in_footer=True),
    Key("home", "home.sort", "s", "s", "sort", "sort",
        "List the newest, the best or the names first", in_footer=True),
    Key("home", "home.measure", "m", "m", "measure", "measure",
        "Measure this machine, so that plans say how long they take", in_footer=True),
    Key("filter", "filter.end", "escape", "esc", "end_filter", "all runs",
        "Out of the filter: show all runs again", in_footer=True, is_command=False),
    Key("form", "form.start", "ctrl+s", "ctrl+s", "start", "start it",
        "Start the run as it is filled in", in_footer=True, has_priority=True),
    Key("form", "form.fit", "ctrl+f", "ctrl+f", "fit", "make it fit",
        "Change as little as is needed to fit this machine", in_footer=True, has_priority=True),
    Key("form", "form.next", "down", "↑ ↓", "app.focus_next", "settings",
        "From one setting to the next, as enter does", in_footer=True, is_command=False),
    Key("form", "form.previous", "up", "up", "app.focus_previous", "previous", "",
        is_command=False),
    Key("form", "form.back", "escape", "esc", "go_back", "back",
        "Back home; what was filled in is kept", in_footer=True, is_command=False),
    Key("chat", "chat.stop", "escape", "esc", "stop_reply", "stop",
        "Stop the answer; what was said stays", in_footer=True, is_command=False),
    Key("chat", "chat.leave", "escape", "esc", "leave_chat", "back",
        "", in_footer=True, is_command=False),
    Key("chat", "chat.copy", "ctrl+y", "ctrl+y", "copy_reply", "copy",
        "Copy the newest answer, or both", in_footer=True, has_priority=True),
    Key("chat", "chat.checkpoint", "ctrl+n", "ctrl+n", "next_checkpoint", "checkpoint",
        "Talk to the next checkpoint; the base is not loaded again", in_footer=True,
        has_priority=True),
    Key("chat", "chat.base", "ctrl+b", "ctrl+b", "toggle_base", "base",
        "Show the base beside, or the adapter alone", in_footer=True, has_priority=True),
    Key("chat", "chat.temperature", "ctrl+t", "ctrl+t", "next_temperature", "temperature",
        "Draw more freely: 0, 0.4, 0.7, 1, 1.3, and 0 again", in_footer=True, has_priority=True),
    Key("chat", "chat.top_p", "ctrl+r", "ctrl+r", "next_top_p", "top-p",
        "Draw from 100, 95, 90 or 80 % of the probability", has_priority=True),
    Key("chat", "chat.clear", "ctrl+l", "ctrl+l", "clear_chat", "new chat",
        "Begin a new conversation", has_priority=True),
    Key("app", "app.quit", "q", "q", "app.leave", "quit",
        "Leave; asks while a run goes on", in_footer=True),
    Key("app", "app.help", "question_mark", "?", "app.help", "help",
        "Every key, and what the signs mean", in_footer=True),
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
