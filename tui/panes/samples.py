"""The samples pane: what the base model answered to a fixed prompt, beside what it answers now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from tui.paint import Line, Picture, centred, line, width_of
from tui.panes.pane import Pane
from tui.words import one_line, short_count, wrap

if TYPE_CHECKING:
    from engine.events import Sampled
    from tui.watch import RunWatch

_LABEL = 6
_SHORT_ROWS = 2


@dataclass(slots=True)
class Answers:
    """One prompt, with the base model's answer, the newest and those before."""

    prompt: str
    base: Sampled | None = None
    now: Sampled | None = None
    earlier: list[Sampled] = field(default_factory=list["Sampled"])
    """Oldest first."""


class SamplesPane(Pane):
    """Every fixed prompt with the newest answer, those before it, and the base model's."""

    title: ClassVar[str] = "samples"

    def picture(self, watch: RunWatch, width: int, height: int) -> Picture:
        """Show as much of the answers as there is room for."""
        answers = by_prompt(watch.view.samples)
        if not answers:
            words = "s lets the model answer" if watch.is_steerable else "no answers yet"
            return Picture(centred([line((words, "muted"))], width, height))
        newest = max((a.now.iteration for a in answers if a.now), default=0)
        top = line(("at ", "muted"), f"{newest:,}") if newest else line(("base model", "muted"))
        brief = [_brief(answer) for answer in answers]
        has_room = height > 3 * len(answers)
        if all(width_of(row) <= width for row in brief) and not has_room:
            return Picture(tuple(brief), top)
        if height <= _SHORT_ROWS:
            return Picture(tuple(_short(answers[-1], width)), top)
        rows: list[Line] = []
        for answer in answers:
            rows.extend(_long(answer, width))
        return Picture(tuple(rows), top)


def by_prompt(samples: list[Sampled]) -> list[Answers]:
    """Gather the answers of each prompt, in the order in which prompts first came."""
    gathered: dict[str, Answers] = {}
    for sampled in samples:
        answers = gathered.setdefault(sampled.prompt, Answers(sampled.prompt))
        if sampled.base:
            answers.base = sampled
        else:
            if answers.now:
                answers.earlier.append(answers.now)
            answers.now = sampled
    return list(gathered.values())


def _brief(answers: Answers) -> Line:
    """Write prompt and answers on one row."""
    spans = [("› ", "accent"), (f"{one_line(answers.prompt)}  ", "")]
    if answers.base:
        spans.append((one_line(answers.base.text), "muted"))
    if answers.now:
        spans += [(" → " if answers.base else "", "muted"), (one_line(answers.now.text), "strong")]
    return line(*spans)


def _short(answers: Answers, width: int) -> list[Line]:
    """Write the two rows that matter most: what changed, or what was asked."""
    if answers.base and answers.now:
        base, now = one_line(answers.base.text), one_line(answers.now.text)
        if _LABEL + max(len(base), len(now)) > width:
            base, now = _where_they_part(base, now)
        return [
            _labelled("base", "muted", "muted", [base])[0],
            _labelled("now", "good", "strong", [now])[0],
        ]
    only = answers.now or answers.base
    return [
        line(("› ", "accent"), one_line(answers.prompt)),
        line((one_line(only.text) if only else "", "strong" if answers.now else "muted")),
    ]


def _where_they_part(one: str, other: str) -> tuple[str, str]:
    """Leave out the words with which both begin: what differs is what somebody wants to see."""
    ones, others = one.split(" "), other.split(" ")
    least = min(len(ones), len(others))
    same = next((i for i in range(least) if ones[i] != others[i]), least - 1)
    if not same:
        return one, other
    return f"…{' '.join(ones[same:])}", f"…{' '.join(others[same:])}"


def _long(answers: Answers, width: int) -> list[Line]:
    rows = [
        line(("› " if i == 0 else "  ", "accent"), row)
        for i, row in enumerate(wrap(answers.prompt, width - 2))
    ]
    room = width - _LABEL
    if answers.now:
        rows += _labelled("now", "good", "strong", wrap(answers.now.text, room))
    if answers.base:
        rows += _labelled("base", "muted", "muted", wrap(answers.base.text, room))
    for sampled in reversed(answers.earlier):
        at = short_count(sampled.iteration)
        rows += _labelled(at, "muted", "", wrap(sampled.text, room))
    return rows


def _labelled(label: str, label_style: str, style: str, rows: list[str]) -> list[Line]:
    first, *more = rows or ["(nothing)"]
    return [
        line((label.ljust(_LABEL), label_style), (first, style)),
        *(line((" " * _LABEL, ""), (row, style)) for row in more),
    ]
