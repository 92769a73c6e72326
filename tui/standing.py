"""How a run stands, as a glyph, a word and a style: never by colour alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.events import Pressure
    from tui.paint import Span

_STANDINGS: dict[str, Span] = {
    "loading": ("◌ loading", "muted"),
    "training": ("● training", "good"),
    "paused": ("‖ paused", "warn"),
    "completed": ("✓ completed", "good"),
    "stopped": ("■ stopped", "warn"),
    "aborted": ("■ aborted", "bad"),
    "failed": ("✗ failed", "bad"),
    "interrupted": ("✗ interrupted", "bad"),
}
_PRESSURES: dict[Pressure | None, Span] = {
    "green": ("● green", "good"),
    "yellow": ("▲ yellow", "warn"),
    "red": ("■ red", "bad"),
    None: ("n/a", "muted"),
}


def standing_span(status: str) -> Span:
    """Say where a run stands."""
    return _STANDINGS.get(status, (f"· {status}", "muted"))


def pressure_span(pressure: Pressure | None) -> Span:
    """Say how short the machine is of memory."""
    return _PRESSURES[pressure]
