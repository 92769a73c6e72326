"""The machine pane: how the computer bears the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from engine.guard.blame import Growth
from tui.paint import Line, Picture, Span, bar, centred, line, width_of
from tui.panes.pane import Pane
from tui.standing import pressure_span
from tui.words import UNKNOWN, size, tight_size

if TYPE_CHECKING:
    from engine.events import Host
    from engine.guard.blame import Fault
    from engine.view import RunView
    from tui.watch import RunWatch

_LABEL = 10
_GROWTH_WORTH_SHOWING = 1_000_000
_SWAP_TROUBLE = 500_000_000
_CLOSE_TO_YELLOW = 0.15
_PERCENT_WIDTH = 5
_ROOM_FOR_POLICY = 28
_ROOMY = 6
"""Rows from which on heat, power and whose fault have a row each."""
FAULT_WORDS: dict[Fault, str] = {
    "run": "this run",
    "others": "others",
    "both": "both",
    "nobody": "nobody",
    "unknown": UNKNOWN,
}
_CALM_THERMAL = ("nominal", "normal")


class MachinePane(Pane):
    """Memory pressure in a word, the way left to yellow, swap, heat and power."""

    title: ClassVar[str] = "machine"

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Draw the newest sample of the machine."""
        host = watch.view.host
        if host is None:
            return Picture(centred([line(("not sampled yet", "muted"))], width, height))
        rows = _rows(watch.view, host, width, height)
        spans = [pressure_span(host.pressure)]
        if width >= _ROOM_FOR_POLICY:
            spans.append((f" · {watch.view.policy}", "muted"))
        return Picture(tuple(rows[:height]), line(*spans))


def _rows(view: RunView, host: Host, width: int, height: int) -> list[Line]:
    """Say what there is room for; where it is short, whose fault counts more than heat."""
    heat = _row(width, "heat", _thermal(host))
    power = _row(width, "power", *_power(host))
    if height < _ROOMY:
        calm = _row(width, "heat", *_heat_and_power(host))
        cause = _row(width, "grew", *_cause(host, width))
        middle = [calm if host.pressure in ("green", None) else cause]
    else:
        middle = [_row(width, "grew", *_cause(host, width)), heat, power]
    return [
        _to_yellow(host, width),
        _row(width, "swap", (size(host.swap_used), ""), _growth(host)),
        *middle,
        _row(width, "guard", *_guard(view, width)),
        _row(width, "last", *_last_action(view)),
        _row(width, "free", (size(host.available), ""), _of(host.memory_total)),
        _row(width, "disk free", (size(host.disk_free), "")),
        _row(width, "paging", _paging(host)),
    ]


def _row(width: int, label: str, value: Span, note: Span = ("", "")) -> Line:
    """Write a row; its note is left out where it would have to be cut."""
    row = line((label.ljust(_LABEL), "muted"), value)
    noted = (*row, (f" {note[0]}", note[1]))
    return noted if note[0] and width_of(noted) <= width else row


def _to_yellow(host: Host, width: int) -> Line:
    if host.to_yellow is None:
        return _row(width, "to yellow", (UNKNOWN, ""))
    style = "warn" if host.to_yellow < _CLOSE_TO_YELLOW else "good"
    percent = f"{round(100 * host.to_yellow)} %".rjust(_PERCENT_WIDTH)
    room = max(0, width - _LABEL - _PERCENT_WIDTH)
    label = ("to yellow".ljust(_LABEL), "muted")
    return line(label, *bar(host.to_yellow, room, style, "─"), percent)


def _growth(host: Host) -> Span:
    growth = host.swap_growth
    if growth is None:
        return ("", "")
    if abs(growth) < _GROWTH_WORTH_SHOWING:
        return ("steady", "muted")
    style = "bad" if growth >= _SWAP_TROUBLE else "warn" if growth > 0 else "muted"
    return (f"{'+' if growth > 0 else '-'}{size(abs(growth))}", style)


def _thermal(host: Host) -> Span:
    if host.thermal is None:
        return (UNKNOWN, "")
    calm = host.thermal in _CALM_THERMAL
    return (host.thermal if calm else f"▲ {host.thermal}", "" if calm else "warn")


def _power(host: Host) -> tuple[Span, Span]:
    charge = ("" if host.battery_percent is None else f"{host.battery_percent:.0f} %", "muted")
    if host.on_battery is None:
        return (UNKNOWN, ""), charge
    return ("▲ battery", "warn") if host.on_battery else ("plugged in", ""), charge


def _heat_and_power(host: Host) -> tuple[Span, Span]:
    """Say both in one row, the one that worries first."""
    if host.on_battery:
        return ("▲ battery", "warn"), _thermal(host)
    return _thermal(host), ("" if host.on_battery is None else "· AC", "muted")


def _cause(host: Host, width: int) -> tuple[Span, Span]:
    """Say who uses more memory than when the machine was last calm."""
    growth = Growth(host.run_growth, host.others_growth)
    style = "muted" if host.pressure in ("green", None) else "warn"
    words = size if width >= _ROOM_FOR_POLICY else tight_size
    run, others = growth.run or 0, growth.others or 0
    grown = {"run": run, "others": others, "both": run + others}.get(growth.fault, 0)
    return (FAULT_WORDS[growth.fault], ""), (f"+{words(grown)}" if grown else "", style)


def _guard(view: RunView, width: int) -> tuple[Span, Span]:
    """Say what the guard did that still holds, or what it would do."""
    state = view.guard_state
    if state != "calm":
        return (state, "warn"), (view.policy, "muted")
    if width >= _ROOM_FOR_POLICY:
        return (state, ""), ("", "")
    return (view.policy, ""), (state, "muted")


def _last_action(view: RunView) -> tuple[Span, Span]:
    last = view.last_guard_action
    if last is None:
        return ("nothing yet", "muted"), ("", "")
    words = {"skip_batch": "skipped", "reload": "reloaded"}.get(last.action, last.action)
    return (words, ""), (f"at {last.iteration:,}", "muted")


def _paging(host: Host) -> Span:
    rate = host.swap_out_bytes_per_second
    if rate is None:
        return (UNKNOWN, "")
    return (f"{size(rate)}/s", "warn") if rate > 0 else ("none", "muted")


def _of(total: int | None) -> Span:
    return ("" if total is None else f"of {size(total)}", "muted")
