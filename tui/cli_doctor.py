"""Says what the doctor found, for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui.words import wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.doctor import Finding

_MARKS = {"ok": "✓ ok", "warning": "▲ warning"}
_MARK_WIDTH = 11
_NAME_WIDTH = 13
_WIDTH = 80


def look_around() -> list[Finding]:
    """Examine this machine; imports MLX, which takes a second or two."""
    from engine.doctor import examine
    from engine.runs import runs_folder

    return examine(runs_folder())


def as_lines(found: Sequence[Finding]) -> list[str]:
    """Write a line a finding, what to do below it, and how many need something, 80 wide."""
    indent = " " * (_MARK_WIDTH + _NAME_WIDTH)
    room = _WIDTH - len(indent)
    lines: list[str] = []
    for finding in found:
        mark = _MARKS[finding.status].ljust(_MARK_WIDTH)
        value, *rest = wrap(finding.value, room)
        lines.append(f"{mark}{finding.name.ljust(_NAME_WIDTH)}{value}")
        lines.extend(f"{indent}{row}" for row in rest)
        # What to do stands out from what is.
        lines.extend(
            f"{indent}{'→ ' if number == 0 else '  '}{row}"
            for number, row in enumerate(wrap(finding.advice, room - 2))
        )
    return [*lines, "", _sum(found)]


def as_json(found: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the findings as plain values."""
    return [
        {
            "name": finding.name,
            "status": finding.status,
            "value": finding.value,
            "advice": finding.advice,
            "figures": finding.figures,
        }
        for finding in found
    ]


def _sum(found: Sequence[Finding]) -> str:
    warnings = sum(finding.status == "warning" for finding in found)
    if not warnings:
        return "All is well for training."
    return f"{warnings} of {len(found)} could be better: see the arrows."
