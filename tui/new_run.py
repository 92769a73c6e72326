"""The form for a run of one's own: its main settings, and beside them what would come of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Input, Label, Select, Static

from engine.errors import LoraTuiError
from tui import asking
from tui.bindings import bindings
from tui.confirm import START, misfit_question
from tui.draft import SETTINGS, Draft, Outlook
from tui.footer import KeyFooter
from tui.outlook import outlook_content
from tui.words import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.timer import Timer

    from tui.draft import Planner, Setting

WIDTHS = [(0, "-narrow"), (136, "-wide")]
TYPING_SECONDS = 0.25
"""How long somebody types nothing before the plan is made anew."""


@dataclass(frozen=True, slots=True)
class Drafted:
    """What the form was left with."""

    draft: Draft
    is_to_start: bool


class NewRunScreen(Screen[Drafted | None]):
    """Asks for the settings of a run; answers with a draft."""

    HORIZONTAL_BREAKPOINTS = WIDTHS
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("form")]
    DEFAULT_CSS = """
    NewRunScreen {
        background: $background;
        #sides { layout: vertical; height: 1fr; }
        #form, #plan {
            border: round $foreground 30%;
            border-title-color: $foreground; border-title-style: bold;
            border-subtitle-color: $text-muted;
            padding: 0 1; scrollbar-size-vertical: 1;
        }
        #form { height: auto; max-height: 70%; }
        #form:focus-within { border: round $primary; }
        #plan { height: 1fr; }
        .setting { height: 1; }
        .setting Label { width: 15; }
        .setting Input, .setting Select { width: 29; margin-right: 2; }
        .setting Input { background: $surface; }
        .setting Input:focus { background: $panel; }
        .note { width: 1fr; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis; }
        .setting.-wrong .note { color: $text-error; }
        .setting Input:nocolor:focus { text-style: underline; }
        Footer { background: $surface; }
    }
    NewRunScreen.-wide {
        #sides { layout: horizontal; }
        #form { width: 84; height: 1fr; max-height: 100%; }
        #plan { width: 1fr; max-width: 90; }
    }
    """

    class Planned(Message):
        """What would come of the settings is shown."""

    def __init__(
        self,
        planner: Planner,
        presets: Sequence[str],
        preset: str,
        draft: Draft | None = None,
        typing_seconds: float = TYPING_SECONDS,
    ) -> None:
        super().__init__()
        self._planner = planner
        self._presets = presets
        self._preset = preset
        self._draft = draft
        self._typing_seconds = typing_seconds
        self._typing: Timer | None = None
        self._outlook: Outlook | None = None
        """Of the settings as they are; None while that is worked out."""

    def compose(self) -> ComposeResult:
        """Lay out the form and the plan."""
        with Vertical(id="sides"):
            with VerticalScroll(id="form", can_focus=False) as form:
                form.border_title = "new run"
                with Horizontal(classes="setting"):
                    yield Label("preset")
                    yield Select[str](
                        [(name, name) for name in self._presets],
                        value=self._preset,
                        allow_blank=False,
                        compact=True,
                        id="preset",
                    )
                    yield Static("what to begin with", classes="note", markup=False)
                for setting in SETTINGS:
                    yield from self._row(setting)
            with VerticalScroll(id="plan") as plan:
                plan.border_title = "plan"
                yield Static(id="outlook", markup=False)
        yield KeyFooter()

    def _row(self, setting: Setting) -> ComposeResult:
        with Horizontal(classes="setting", id=f"row-{_place(setting.key)}"):
            yield Label(setting.label)
            yield Input(id=_place(setting.key), compact=True, select_on_focus=False)
            yield Static(setting.note, classes="note", markup=False)

    def on_mount(self) -> None:
        """Fill in what is known."""
        self._begin(self._draft)
        self._input("model").focus()

    def _begin(self, draft: Draft | None) -> None:
        self._outlook = None
        self._say_planning()
        self.run_worker(partial(self._fill, draft), group="plan", exclusive=True)

    async def _fill(self, draft: Draft | None) -> None:
        draft = draft or await asyncio.to_thread(self._planner.begin, self._preset)
        self._put(draft)
        await self._plan()

    def _put(self, draft: Draft) -> None:
        self._draft = draft
        for setting in SETTINGS:
            field = self._input(setting.key)
            with field.prevent(Input.Changed):
                field.value = draft.values[setting.key]
            field.cursor_position = len(field.value)

    def on_select_changed(self, event: Select.Changed) -> None:
        """Begin with another preset."""
        name = str(event.value)
        if name != self._preset:
            self._preset = name
            self._begin(None)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Plan anew once nobody types."""
        if self._draft is None:
            return
        key = next(s.key for s in SETTINGS if _place(s.key) == event.input.id)
        self._draft = self._draft.changed(key, event.value)
        self._outlook = None
        self._say_planning()
        if self._typing is not None:
            self._typing.stop()
        self._typing = self.set_timer(self._typing_seconds, self._plan_again)

    def on_input_submitted(self) -> None:
        """Go to the next setting."""
        self.focus_next()

    def _plan_again(self) -> None:
        self.run_worker(self._plan, group="plan", exclusive=True)

    async def _plan(self) -> None:
        draft = self._draft
        if draft is None:
            return
        outlook = await asyncio.to_thread(self._planner.look, draft)
        if draft is not self._draft:
            return
        self._outlook = outlook
        self._show(outlook)
        self.post_message(self.Planned())

    def _show(self, outlook: Outlook) -> None:
        for setting in SETTINGS:
            row = self.query_one(f"#row-{_place(setting.key)}")
            problem = outlook.problems.get(setting.key)
            row.set_class(problem is not None, "-wrong")
            note = row.query_one(".note", Static)
            note.update(setting.note if problem is None else f"✗ {problem}")
        plan = self.query_one("#plan")
        plan.border_title = "plan"
        plan.border_subtitle = "ctrl+s starts it" if outlook.can_start else "not yet"
        self._draw_outlook()
        self.refresh_bindings()

    def _draw_outlook(self) -> None:
        if self._outlook is not None:
            width = max(20, self.query_one("#plan").size.width - 3)
            self.query_one("#outlook", Static).update(outlook_content(self._outlook, width))

    def _say_planning(self) -> None:
        self.query_one("#plan").border_title = "plan · working it out…"

    def on_resize(self, _: events.Resize) -> None:
        """Draw the plan in its new width."""
        self.call_after_refresh(self._draw_outlook)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Making it fit is only there while it does not."""
        if action == "fit":
            return self._outlook is not None and self._outlook.fits is False
        return super().check_action(action, parameters)

    def action_go_back(self) -> None:
        """Go home, and keep what was typed."""
        self.dismiss(Drafted(self._draft, is_to_start=False) if self._draft else None)

    def action_fit(self) -> None:
        """Change as little as is needed to fit."""
        if self._draft is not None:
            self.run_worker(partial(self._fit, self._draft), group="plan", exclusive=True)

    async def _fit(self, draft: Draft) -> None:
        try:
            fitting = await asyncio.to_thread(self._planner.fit, draft)
        except LoraTuiError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        words = "\n".join(fitting.changes) or "Nothing was found that would help."
        self.notify(words, title="Changed" if fitting.changes else "", markup=False, timeout=10)
        self._put(fitting.draft)
        await self._plan()

    def action_start(self) -> None:
        """Start it, unless something has to be corrected first."""
        self.run_worker(self._start, group="plan", exclusive=True)

    async def _start(self) -> None:
        if self._typing is not None:
            self._typing.stop()
        if self._outlook is None:
            await self._plan()
        outlook, draft = self._outlook, self._draft
        if outlook is None or draft is None:
            return
        if not outlook.can_start:
            self._go_to_problem(outlook)
            return
        if outlook.fits is not False or await self._is_sure(outlook):
            self.dismiss(Drafted(draft, is_to_start=True))

    async def _is_sure(self, outlook: Outlook) -> bool:
        return await asking.ask(self, misfit_question(outlook.verdict)) == START

    def _go_to_problem(self, outlook: Outlook) -> None:
        wrong = next((s.key for s in SETTINGS if s.key in outlook.problems), None)
        if wrong is not None:
            self._input(wrong).focus()
        words = next(iter(outlook.problems.values()))
        self.notify(shorten(words, 200), title="Not yet", severity="error", markup=False)

    def _input(self, key: str) -> Input:
        return self.query_one(f"#{_place(key)}", Input)


def _place(key: str) -> str:
    """Return the name of a setting's field; ids have no dots."""
    return key.replace(".", "-")
