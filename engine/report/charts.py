"""Draws a report's curves as SVG for a page: colours are the page's classes, for light and dark."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from engine.figures import DAY, HOUR, MINUTE, loss, significant, size
from engine.report.series import Stretch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from engine.report.facts import Report
    from engine.report.series import HostPoint, LossPoint, Series

    Points = Sequence[tuple[float, float]]

_Point = TypeVar("_Point")
WIDTH = 960
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 16, 32
GAP_SHARE = 0.012
"""Of the width, for the time between two processes, however long it was."""
TICKS = 5
_FRACTIONS = (1.0, 2.0, 2.5, 5.0, 10.0)
_CLOCK_STEPS = (
    5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
    HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY,
)  # fmt: skip
_TICK_ROOM = 90.0
"""Pixels that the words of two ticks need."""
_OUTLIER_SHARE = 0.985
"""Of the stretches whose highest loss the picture has to hold; the rest may leave it."""
_LEVEL_NAMES = {1: "yellow", 2: "red"}


@dataclass(frozen=True, slots=True)
class Frame:
    """The part of a picture that a curve is in, and its scale."""

    height: int
    low: float
    high: float

    @property
    def bottom(self) -> float:
        """Where the axis is."""
        return self.height - BOTTOM

    def y(self, value: float) -> float:
        """Place a value, at most at the picture's edge."""
        span = (self.high - self.low) or 1.0
        share = min(1.0, max(0.0, (value - self.low) / span))
        return self.bottom - share * (self.bottom - TOP)


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day along a picture; between two processes it jumps."""

    running: tuple[Stretch, ...]

    def x(self, moment: float) -> float:
        """Place a moment."""
        room = WIDTH - LEFT - RIGHT
        gaps = room * GAP_SHARE * (len(self.running) - 1)
        whole = sum(stretch.seconds for stretch in self.running) or 1.0
        scale = (room - gaps) / whole
        x = float(LEFT)
        for stretch in self.running:
            if moment <= stretch.end or stretch is self.running[-1]:
                return x + scale * min(max(moment - stretch.begin, 0.0), stretch.seconds)
            x += scale * stretch.seconds + room * GAP_SHARE
        return x

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Yield round times of day, and where they are."""
        whole = sum(stretch.seconds for stretch in self.running)
        most = (WIDTH - LEFT - RIGHT) / _TICK_ROOM
        step = next((s for s in _CLOCK_STEPS if whole / s <= most), _CLOCK_STEPS[-1])
        while whole / step > most:
            step *= 2
        last = -math.inf
        for stretch in self.running:
            offset = time.localtime(stretch.begin).tm_gmtoff or 0
            moment = math.ceil((stretch.begin + offset) / step) * step - offset
            while moment <= stretch.end:
                x = self.x(moment)
                if x - last >= _TICK_ROOM / 2:
                    words = "%a %d" if step >= DAY else "%H:%M" if step >= MINUTE else "%H:%M:%S"
                    yield x, time.strftime(words, time.localtime(moment))
                    last = x
                moment += step


def loss_chart(report: Report, height: int = 320) -> str:
    """Draw the loss by iteration: the training band and mean, validation, best, checkpoints."""
    points = [p for p in report.series.loss if math.isfinite(p.mean)]
    measured = [(float(e.iteration), e.val_loss) for e in report.evaluations]
    frame = _loss_frame(points, measured, height)
    if frame is None:
        return _nothing(height, "No step was trained.")
    last = max([p.iteration for p in points] + [int(x) for x, _ in measured] or [1]) or 1

    def x(iteration: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * iteration / last

    band = [(x(p.iteration), frame.y(p.high)) for p in points]
    band += [(x(p.iteration), frame.y(p.low)) for p in reversed(points)]
    parts = [
        *_grid(frame, _round_ticks(frame.low, frame.high), loss),
        *_iteration_ticks(frame, last, x),
        _shape("polygon", band, "band"),
        _line([(x(p.iteration), frame.y(p.mean)) for p in points], "train"),
        _line([(x(i), frame.y(value)) for i, value in measured], "val"),
    ]
    for iteration, value in measured:
        words = f"validation loss {loss(value)} at {iteration:,.0f}"
        parts.append(_dot(x(iteration), frame.y(value), 3, "val-dot", words))
    parts += [
        _checkpoint(x(saved.iteration), frame.bottom, f"saved {saved.iteration:,}")
        for saved in report.saved
    ]
    if report.best is not None and math.isfinite(report.best.val_loss):
        at, value = report.best.iteration, report.best.val_loss
        parts += _best(x(at), frame.y(value), f"best {loss(value)} at {at:,}")
    return _svg(parts, height, "Loss by iteration")


def memory_chart(report: Report, height: int = 190) -> str:
    """Draw by the clock what MLX held, its peak, the footprint and the budget."""
    series, clock = report.series, Clock(report.series.running)
    if not series.steps:
        return _nothing(height, "No step was trained.")
    footprints = [p.footprint_bytes for p in series.steps if p.footprint_bytes is not None]
    highest = max(report.peak_bytes, *footprints, 1) if footprints else max(report.peak_bytes, 1)
    budget = report.budget_bytes
    # A budget far beyond what was used would press the curves onto the axis.
    is_in_sight = 0 < budget <= 4 * highest
    frame = Frame(height, 0.0, 1.08 * (max(highest, budget) if is_in_sight else highest))
    parts = [*_spells(report, clock, frame), *_grid(frame, _byte_ticks(frame.high), _bytes)]
    parts += _clock_ticks(clock, frame)
    runs = list(_in_runs([(p.time, p) for p in series.steps], _breaks(series)))
    for run in runs:
        active = [(clock.x(t), frame.y(p.active_bytes)) for t, p in run]
        area = [(active[0][0], frame.bottom), *active, (active[-1][0], frame.bottom)]
        parts += [_shape("polygon", area, "active-area"), _line(active, "active")]
        parts.append(_line([(clock.x(t), frame.y(p.peak_bytes)) for t, p in run], "peak"))
        footprint = [
            (clock.x(t), frame.y(p.footprint_bytes))
            for t, p in run
            if p.footprint_bytes is not None
        ]
        parts.append(_line(footprint, "footprint"))
    if is_in_sight:
        y = frame.y(budget)
        parts.append(_line([(LEFT, y), (WIDTH - RIGHT, y)], "budget"))
        parts.append(_text(WIDTH - RIGHT - 4, y - 5, f"budget {size(budget)}", "end"))
    return _svg(parts, height, "Memory by the clock")


def pressure_chart(report: Report, height: int = 150) -> str:
    """Draw by the clock how short the machine was of memory, and what it had in swap."""
    series, clock = report.series, Clock(report.series.running)
    if not series.host:
        return _nothing(height, "The machine was never looked at.")
    highest = max((p.swap_bytes for p in series.host if math.isfinite(p.swap_bytes)), default=0.0)
    frame = Frame(height, 0.0, 1.15 * max(highest, 1e9))
    parts = [*_spells(report, clock, frame), *_grid(frame, _byte_ticks(frame.high), _bytes)]
    parts += _clock_ticks(clock, frame)
    away = [Stretch(s.end, s.end) for s in series.running]
    for run in _in_runs([(p.time, p) for p in series.host], away):
        parts += _levels(run, clock, frame)
        swap = [(clock.x(t), frame.y(p.swap_bytes)) for t, p in run if p.swap_bytes >= 0]
        if swap:
            area = [(swap[0][0], frame.bottom), *swap, (swap[-1][0], frame.bottom)]
            parts += [_shape("polygon", area, "swap-area"), _line(swap, "swap")]
    return _svg(parts, height, "Memory pressure and swap by the clock")


def pace_chart(report: Report, height: int = 150) -> str:
    """Draw by the clock how many tokens a second were trained on."""
    series, clock = report.series, Clock(report.series.running)
    if not series.steps:
        return _nothing(height, "No step was trained.")
    highest = max(p.tokens_per_second for p in series.steps)
    frame = Frame(height, 0.0, 1.12 * (highest or 1.0))
    parts = [
        *_spells(report, clock, frame),
        *_grid(frame, _round_ticks(0.0, frame.high, 4), _rate),
        *_clock_ticks(clock, frame),
    ]
    parts += [
        _line([(clock.x(t), frame.y(p.tokens_per_second)) for t, p in run], "pace")
        for run in _in_runs([(p.time, p) for p in series.steps], _breaks(series))
    ]
    return _svg(parts, height, "Tokens a second by the clock")


def _loss_frame(points: Sequence[LossPoint], measured: Points, height: int) -> Frame | None:
    tops = sorted(p.high for p in points)
    held = tops[: max(1, math.ceil(_OUTLIER_SHARE * len(tops)))]
    means = [p.mean for p in points] + [value for _, value in measured]
    if not means:
        return None
    low = min([p.low for p in points] + means)
    high = max([*held[-1:], *means])
    margin = 0.04 * ((high - low) or abs(high) or 1.0)
    return Frame(height, max(0.0, low - margin) if low >= 0 else low - margin, high + margin)


def _iteration_ticks(frame: Frame, last: int, x: Callable[[float], float]) -> Iterator[str]:
    ticks = [tick for tick in _round_ticks(0, last, 8) if tick == int(tick)]
    for tick in ticks:
        if x(tick) < WIDTH - RIGHT - _TICK_ROOM / 2 or tick == last:
            yield _text(x(tick), frame.bottom + 23, f"{tick:,.0f}", "middle")
    if not ticks or x(ticks[-1]) < WIDTH - RIGHT - 1:
        yield _text(WIDTH - RIGHT, frame.bottom + 23, f"{last:,}", "end")


def _in_runs(
    points: Sequence[tuple[float, _Point]], breaks: Iterable[Stretch]
) -> Iterator[Sequence[tuple[float, _Point]]]:
    """Cut a curve where nothing was trained: between processes, in pauses, asleep."""
    times = [moment for moment, _ in points]
    cuts = sorted({bisect_right(times, stretch.begin) for stretch in breaks})
    for first, end in pairwise((0, *cuts, len(points))):
        if end > first:
            yield points[first:end]


def _breaks(series: Series) -> list[Stretch]:
    return [*series.still, *(Stretch(s.end, s.end) for s in series.running)]


def _spells(report: Report, clock: Clock, frame: Frame) -> Iterator[str]:
    """Shade when the run stood still, and mark where one process follows another."""
    for stretch in report.series.still:
        left, right = clock.x(stretch.begin), clock.x(stretch.end)
        yield _rect(left, TOP, right - left, frame.bottom - TOP, "still", "paused or asleep")
    for before, after in pairwise(report.series.running):
        left, right = clock.x(before.end), clock.x(after.begin)
        yield _rect(left, TOP, right - left, frame.bottom - TOP, "away", "not running")


def _levels(run: Sequence[tuple[float, HostPoint]], clock: Clock, frame: Frame) -> Iterator[str]:
    """Colour the stretches in which memory was short."""
    before = run[0][0]
    for moment, point in run:
        if name := _LEVEL_NAMES.get(point.level):
            left = clock.x(before)
            wide = max(2.0, clock.x(moment) - left)
            yield _rect(left, TOP, wide, frame.bottom - TOP, name, f"pressure {name}")
        before = moment


def _clock_ticks(clock: Clock, frame: Frame) -> Iterator[str]:
    for x, words in clock.ticks():
        yield _line([(x, frame.bottom), (x, frame.bottom + 4)], "tick")
        yield _text(x, frame.bottom + 23, words, "middle")


def _grid(frame: Frame, ticks: Iterable[float], words: Callable[[float], str]) -> Iterator[str]:
    for tick in ticks:
        y = frame.y(tick)
        yield _line([(LEFT, y), (WIDTH - RIGHT, y)], "grid")
        yield _text(LEFT - 9, y + 4, words(tick), "end")


def _round_ticks(low: float, high: float, most: int = TICKS) -> list[float]:
    """Return a few round numbers between two others."""
    rough = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * f for f in _FRACTIONS if power * f >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first
    return [(first + i) * step for i in range(count + 1)]


def _byte_ticks(high: float) -> list[float]:
    return _round_ticks(0.0, high, 4)


def _bytes(count: float) -> str:
    return size(count) if count else "0"


def _rate(value: float) -> str:
    return significant(value) if value else "0"


def _nothing(height: int, words: str) -> str:
    return _svg([_text(WIDTH / 2, height / 2, words, "middle")], height, words)


def _svg(parts: Iterable[str], height: int, name: str) -> str:
    inside = "\n".join(part for part in parts if part)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}">\n'
        f"<title>{escape(name)}</title>\n{inside}\n</svg>"
    )


def _line(points: Points, name: str) -> str:
    return _shape("polyline", points, name) if len(points) > 1 else ""


def _shape(kind: str, points: Points, name: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<{kind} class="{name}" points="{joined}"/>'


def _rect(x: float, y: float, width: float, height: float, name: str, words: str) -> str:
    if width <= 0:
        return ""
    return (
        f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
        f"<title>{escape(words)}</title></rect>"
    )


def _dot(x: float, y: float, radius: float, name: str, words: str) -> str:
    return (
        f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{escape(words)}</title></circle>"
    )


def _checkpoint(x: float, y: float, words: str) -> str:
    return (
        f'<path class="saved" d="M{x:.1f},{y + 2:.1f}l4.5,7h-9z"><title>{escape(words)}</title>'
        "</path>"
    )


def _best(x: float, y: float, words: str) -> Iterator[str]:
    star = " ".join(
        f"{x + r * math.sin(i * math.pi / 5):.1f},{y - r * math.cos(i * math.pi / 5):.1f}"
        for i in range(10)
        for r in ((8.5,) if i % 2 == 0 else (3.6,))
    )
    yield f'<polygon class="best" points="{star}"><title>{escape(words)}</title></polygon>'
    is_right = x > WIDTH - 170
    at = x - 13 if is_right else x + 13
    # Above the curve, which comes down to it from the left.
    yield _text(at, y - 12, words, "end" if is_right else "start", "label")


def _text(x: float, y: float, words: str, anchor: str, name: str = "") -> str:
    of_class = f' class="{name}"' if name else ""
    return f'<text{of_class} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
