"""Draws a loss curve as a small SVG that needs nothing to be shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Points = Sequence[tuple[int, float]]

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 260, 48, 28, 12
BUCKETS = 160


def curve_svg(losses: Points, evaluations: Points) -> str:
    """Return the training loss, averaged in stretches, with the validation loss over it.

    Args:
        losses: iteration and loss of every step; what is not finite is left out.
        evaluations: iteration and validation loss.
    """
    train = _averaged([(i, loss) for i, loss in losses if math.isfinite(loss)])
    every = [*train, *evaluations]
    if not every:
        return _svg([_text(WIDTH / 2, HEIGHT / 2, "nothing was measured", "middle")])
    last = max(i for i, _ in every) or 1
    low, high = min(y for _, y in every), max(y for _, y in every)
    span = high - low or 1.0

    def place(iteration: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - 12) * iteration / last
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / span

    parts = [
        _text(LEFT - 6, place(0, high)[1] + 4, f"{high:.2f}", "end"),
        _text(LEFT - 6, place(0, low)[1] + 4, f"{low:.2f}", "end"),
        _text(LEFT, HEIGHT - 8, "0", "middle"),
        _text(WIDTH - 12, HEIGHT - 8, f"{last:,}", "end"),
        _text(WIDTH - 12, TOP + 12, "— training   ● validation", "end"),
        _line([place(i, y) for i, y in train], "#c8772e", 1.5),
        _line([place(i, y) for i, y in evaluations], "#2a7f95", 2),
    ]
    for i, y in evaluations:
        x, height = place(i, y)
        parts.append(f'<circle cx="{x:.1f}" cy="{height:.1f}" r="3" fill="#2a7f95"/>')
    return _svg(parts)


def _averaged(points: Points) -> list[tuple[int, float]]:
    """At most so many points, each the mean of a stretch."""
    size = max(1, math.ceil(len(points) / BUCKETS))
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in stretches]


def _svg(parts: Sequence[str]) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{inside}\n</svg>\n'
    )


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#444444" text-anchor="{anchor}">{text}</text>'
