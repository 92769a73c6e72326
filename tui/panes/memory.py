"""The memory pane: what the run takes against its budget, measured beside planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tui.paint import Line, Picture, centred, line, spread, width_of
from tui.panes.pane import Pane
from tui.trace import draw_trace
from tui.words import size, tight_size

if TYPE_CHECKING:
    from engine.events import MemoryPlan
    from engine.view import RunView
    from tui.watch import RunWatch

_NAME_WIDTH = 13
"""The sign of a part of the bar, and what it is."""
_WIDE = 30
_TIGHT = 0.05
"""Share of the budget below which what is to spare is worth a warning."""
_DETAILED_ROWS = 12
_LEAST_TRACE_ROWS = 3
_MOST_TRACE_ROWS = 24
_SEEN = 4
_HEADROOM = 1.25
_NONE = "–"
BASE, LORA, GRADIENTS, OPTIMISER = ("█", "accent"), ("▚", "val"), ("▞", "warn"), ("▟", "good")
ACTIVATIONS, CACHE, OTHER = ("▓", "band"), ("▒", "muted"), ("░", "muted")
"""What each part of the bar is drawn with: never told apart by colour alone."""


@dataclass(frozen=True, slots=True)
class Part:
    """A row of the table, and a part of the bar where it has a sign."""

    name: str
    planned: int | None = None
    glyph: str = ""
    style: str = "muted"
    measured: int | None = None
    is_missing: bool = False
    """Whether the measured figure cannot be read here."""


class MemoryPane(Pane):
    """Memory by component and in all, planned and measured."""

    title: ClassVar[str] = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._traced_for: tuple[object, ...] = ()
        self._trace: tuple[Line, ...] = ()

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Draw the gauge, the table and the last hour."""
        view = watch.view
        started = view.started
        if started is None:
            words = line(("not planned yet", "muted"))
            return Picture(centred([words], width, height))
        detailed = height >= _DETAILED_ROWS
        parts = parts_of(view, started.plan, detailed=detailed)
        rows = [
            gauge(view, started.budget, width, started.working_set, detailed=detailed),
            _heads(width),
            *(_row(part, width) for part in parts),
        ]
        if started.working_set and height > len(rows):
            words = line(("╎ recommended working set", "muted"))
            rows.append(spread(words, line(size(started.working_set)), width))
        room = min(_MOST_TRACE_ROWS, height - len(rows) - 1)
        if room >= _LEAST_TRACE_ROWS:
            rows += [(), *self._hour(view, started.budget, (width, room))]
        top = line(("budget ", "muted"), size(started.budget))
        return Picture(tuple(rows), top, bottom=_spare(view, started.budget))

    def _hour(self, view: RunView, budget: int, room: tuple[int, int]) -> tuple[Line, ...]:
        newest = view.host.time if view.host else 0.0
        wanted = (newest, len(view.host_trace), budget, room)
        if wanted != self._traced_for:
            self._traced_for = wanted
            most = max((host.footprint or 0 for host in view.host_trace), default=0)
            # Of a budget hardly used, nothing would be seen.
            top = max(budget, most) if most * _SEEN >= budget else round(most * _HEADROOM)
            self._trace = draw_trace(view.host_trace, top, room)
        return self._trace


def footprint(view: RunView) -> int | None:
    """Give what the process takes in all, from the newest of the two places that say it."""
    if view.host is not None and view.host.footprint is not None:
        return view.host.footprint
    return view.memory.footprint


def other_bytes(view: RunView) -> int | None:
    """Give what the process takes besides MLX's arrays and cache; None where nobody can say.

    All three figures are of one moment, the end of the newest step.
    """
    memory = view.memory
    if memory.footprint is None:
        return None
    rest = memory.footprint - memory.active - memory.cache
    # Of a device with memory of its own the footprint says nothing.
    return rest if rest >= 0 else None


def parts_of(view: RunView, plan: MemoryPlan, *, detailed: bool) -> list[Part]:
    """Say where the memory goes: what is held all the time, then what a step needs besides."""
    memory, peak = view.memory, view.peak_bytes
    held = plan.base + plan.adapters + plan.gradients + plan.optimizer
    other = other_bytes(view)
    # Before the first step, the widest one that was tried is the peak.
    highest = peak or (view.probed.peak if view.probed else 0)
    learning = plan.adapters + plan.gradients + plan.optimizer
    if detailed:
        first = [
            Part("base", plan.base, *BASE),
            Part("LoRA", plan.adapters, *LORA),
            Part("gradients", plan.gradients, *GRADIENTS),
            Part("optimiser", plan.optimizer, *OPTIMISER),
            Part("all held", held, measured=memory.active if peak else None),
        ]
    else:
        first = [
            Part("base", plan.base, *BASE),
            Part("LoRA, Adam", learning, *LORA),
        ]
    return [
        *first,
        Part("activations", plan.peak - held, *ACTIVATIONS, measured=_over(peak, memory.active)),
        Part("cache", None, *CACHE, measured=memory.cache if peak else None),
        Part("other", None, *OTHER, measured=other, is_missing=bool(peak) and other is None),
        Part("peak", plan.peak, measured=highest or None),
        Part("footprint", None, measured=footprint(view)),
    ]


def _over(peak: int, active: int) -> int | None:
    return max(0, peak - active) if peak else None


def gauge(
    view: RunView, budget: int, width: int, working_set: int | None = None, *, detailed: bool = True
) -> Line:
    """Draw one bar: what is held by component, a step's activations, and the rest.

    Cache and activations are the same memory at different times: the bar shows the larger.
    What is not measured yet is drawn as planned.
    """
    plan = view.started.plan if view.started else None
    if plan is None:
        return ()
    memory, peak = view.memory, view.peak_bytes
    held = [plan.base, plan.adapters, plan.gradients, plan.optimizer]
    planned = sum(held)
    factor = memory.active / planned if peak and planned else 1.0
    activations = _over(peak, memory.active) if peak else plan.peak - planned
    cache = max(0, memory.cache - (activations or 0))
    sizes = [*(count * factor for count in held), activations or 0, cache, other_bytes(view) or 0]
    learning = (LORA, GRADIENTS, OPTIMISER) if detailed else (LORA, LORA, LORA)
    signs = (BASE, *learning, ACTIVATIONS, CACHE, OTHER)
    whole = max(budget, working_set or 0, round(sum(sizes))) or 1
    cells: list[tuple[str, str]] = []
    reached = 0.0
    for count, sign in zip(sizes, signs, strict=True):
        reached += count
        cells += [sign] * (min(width, round(reached / whole * width)) - len(cells))
    cells += [("·", "faint")] * (width - len(cells))
    for limit, sign in ((budget, ("│", "strong")), (working_set, ("╎", "strong"))):
        if limit and limit < whole:
            cells[min(width - 1, int(limit / whole * width))] = sign
    return tuple(cells)


def _heads(width: int) -> Line:
    column = _figure_width(width)
    return line((f"{'':{_NAME_WIDTH}}{'plan':>{column}} {'now':>{column}}", "muted"))


def _row(part: Part, width: int) -> Line:
    column = _figure_width(width)
    name = f" {part.name}" if part.glyph else part.name
    words = size if width >= _WIDE else tight_size
    planned = _NONE if part.planned is None else words(part.planned)
    measured = "" if part.measured is None else words(part.measured)
    row = line(
        (part.glyph, part.style),
        (name.ljust(_NAME_WIDTH - len(part.glyph)), "muted"),
        (planned.rjust(column), "muted"),
        f" {('n/a' if part.is_missing else measured).rjust(column)}",
    )
    note = _compared(part)
    return (*row, (f"  {note}", "muted")) if width_of(row) + 2 + len(note) <= width else row


def _figure_width(width: int) -> int:
    return 8 if width >= _WIDE else (width - _NAME_WIDTH - 1) // 2


def _compared(part: Part) -> str:
    if not part.measured or not part.planned or part.name != "peak":
        return ""
    share = round(100 * abs(part.measured - part.planned) / part.planned)
    return (
        f"{share} % {'over' if part.measured > part.planned else 'under'}" if share else "as plan"
    )


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
