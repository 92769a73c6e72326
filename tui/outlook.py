"""What would come of a draft, as the form shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from tui.words import size, wrap

if TYPE_CHECKING:
    from tui.draft import Outlook

_LABEL = 8
_MUTED = "$foreground 60%"
_STYLES = {True: "$text-success", False: "$text-error", None: _MUTED}


def outlook_content(outlook: Outlook, width: int) -> Content:
    """Write problems, whether it fits, what the memory is for, the time, and what else to know.

    Args:
        outlook: of a draft.
        width: cells of a row.
    """
    rows: list[Content] = []
    for key, problem in outlook.problems.items():
        setting = key.rpartition(".")[2].replace("_", " ")
        rows += _wrapped(f"✗ {setting}: {problem}" if setting else f"✗ {problem}", width, False)
    if outlook.verdict:
        glyph = "✓" if outlook.fits else "✗"
        rows.append(Content.styled(f"{glyph} {outlook.verdict}", f"bold {_STYLES[outlook.fits]}"))
        rows.append(_bar(outlook, width))
        rows += _labelled("memory", " · ".join(f"{n} {size(b)}" for n, b in outlook.parts), width)
        for label, words in outlook.facts:
            rows += _labelled(label, words, width)
    for note in outlook.notes:
        rows += _wrapped(note, width, None)
    return Content("\n").join(rows)


def _bar(outlook: Outlook, width: int) -> Content:
    """Draw the peak against the budget, which ends at a mark where the peak is beyond it."""
    room = max(8, width - _LABEL)
    most = max(outlook.peak_bytes, outlook.budget_bytes, 1)
    peak = max(1, round(room * outlook.peak_bytes / most))
    budget = round(room * outlook.budget_bytes / most)
    inside, beyond = min(peak, budget), max(0, peak - budget)
    return Content.assemble(
        " " * _LABEL,
        ("━" * inside, "$primary"),
        ("╳" * beyond, "$text-error"),
        ("─" * (room - inside - beyond), "$foreground 30%"),
    )


def _labelled(label: str, words: str, width: int) -> list[Content]:
    first, *more = wrap(words, width - _LABEL) or [""]
    return [
        Content.assemble((f"{label:<{_LABEL}}", _MUTED), first),
        *(Content(" " * _LABEL + row) for row in more),
    ]


def _wrapped(words: str, width: int, fits: bool | None) -> list[Content]:
    return [Content.styled(row, _STYLES[fits]) for row in wrap(words, width)]
