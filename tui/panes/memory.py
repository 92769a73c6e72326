"""The memory pane: what the run takes against its budget, measured beside planned."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tui.paint import Line, Picture, bar, centred, line, width_of
from tui.panes.pane import Pane
from tui.words import size

if TYPE_CHECKING:
    from engine.events import MemoryPlan
    from engine.view import RunView
    from tui.watch import RunWatch

_NAME_WIDTH = 11
_FIGURE_WIDTH = 8
_TIGHT = 0.05
"""Share of the budget below which what is to spare is worth a warning."""
_DETAILED_ROWS = 13


class MemoryPane(Pane):
    """Memory by component and in all, in use and planned."""

    title: ClassVar[str] = "memory"

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Draw the gauge, the plan's components and the measured figures."""
        view = watch.view
        started = view.started
        if started is None:
            words = line(("not planned yet", "muted"))
            return Picture(centred([words], width, height))
        plan = _components(started.plan, detailed=height >= _DETAILED_ROWS)
        largest = max((count for _, count in plan), default=0) or 1
        rows = [
            _gauge(view, started.budget, width),
            *(_component(name, count, largest, width) for name, count in plan),
            *_totals(view, started.plan.peak, width),
        ]
        blank = height >= len(rows) + 2
        if blank:
            rows = [rows[0], (), *rows[1 : len(plan) + 1], (), *rows[len(plan) + 1 :]]
        top = line(("budget ", "muted"), size(started.budget))
        return Picture(tuple(rows), top, bottom=_spare(view, started.budget))


def footprint(view: RunView) -> int | None:
    """Give what the process takes in all, from the newest of the two places that say it."""
    if view.host is not None and view.host.footprint is not None:
        return view.host.footprint
    return view.memory.footprint


def _components(plan: MemoryPlan, *, detailed: bool) -> list[tuple[str, int]]:
    learning = plan.adapters + plan.gradients + plan.optimizer
    if not detailed:
        return [
            ("base model", plan.base),
            ("lora+adam", learning),
            ("activations", plan.activations),
            ("other", plan.tail + plan.data + plan.other),
        ]
    return [
        ("base model", plan.base),
        ("adapters", plan.adapters),
        ("gradients", plan.gradients),
        ("optimizer", plan.optimizer),
        ("activations", plan.activations),
        ("loss tail", plan.tail),
        ("data, other", plan.data + plan.other),
    ]


def _component(name: str, count: int, largest: int, width: int) -> Line:
    figures = _figure(name, size(count))
    return (*figures, (" ", ""), *bar(count / largest, max(0, width - width_of(figures) - 1)))


def _figure(name: str, figure: str, glyph: str = "", style: str = "muted") -> Line:
    label = (name if not glyph else f" {name}").ljust(_NAME_WIDTH - len(glyph))
    return line((glyph, style), (label, "muted"), figure.rjust(_FIGURE_WIDTH))


def _gauge(view: RunView, budget: int, width: int) -> Line:
    """Draw one bar over the whole budget: alive now, at the peak, and the process in all."""
    cells = budget / width if budget else 1
    marks = (
        (view.memory.active, "█", "accent"),
        (view.peak_bytes or (view.started.plan.peak if view.started else 0), "▓", "band"),
        (footprint(view) or 0, "▒", "muted"),
        (budget, "░", "faint"),
    )
    spans: list[tuple[str, str]] = []
    drawn = 0
    for count, glyph, style in marks:
        end = min(width, max(drawn, round(count / cells)))
        spans.append((glyph * (end - drawn), style))
        drawn = end
    return tuple(spans)


def _totals(view: RunView, planned: int, width: int) -> list[Line]:
    memory = view.memory
    peak = view.peak_bytes or None
    rows = [
        _figure("planned", size(planned)),
        _figure("peak", size(peak), "▓", "band"),
        _figure("now", size(memory.active if peak else None), "█", "accent"),
        _figure("footprint", size(footprint(view)), "▒"),
    ]
    room = width - _NAME_WIDTH - _FIGURE_WIDTH
    notes = ("", _compared(peak, planned), f"cache {size(memory.cache)}" if peak else "", "")
    return [
        (*row, (f"  {note}", "muted")) if note and len(note) + 2 <= room else row
        for row, note in zip(rows, notes, strict=True)
    ]


def _compared(peak: int | None, planned: int) -> str:
    if not peak or not planned:
        return ""
    share = round(100 * abs(peak - planned) / planned)
    return f"{share} % {'over' if peak > planned else 'under'} plan" if share else "as planned"


def _spare(view: RunView, budget: int) -> Line:
    taken = max(view.peak_bytes, footprint(view) or 0)
    if not taken:
        return ()
    spare = budget - taken
    if spare < 0:
        return line((f"✗ {size(-spare)} over", "bad"))
    if spare < _TIGHT * budget:
        return line((f"▲ {size(spare)} to spare", "warn"))
    return line((f"{size(spare)} to spare", "good"))
