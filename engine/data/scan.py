"""Sorts the rows of one split as they are read: good ones, ones to leave out, ones that stop it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from engine.data.formats import TREE_KEYS, Features, Format, Problem, Row, parse_row
from engine.data.oasst import Forest
from engine.errors import place_of

if TYPE_CHECKING:
    from pathlib import Path

_LINES_LISTED = 5
_AS_THEY_ARE = ("chat", "text")
"""Formats whose rows need not be turned into messages."""


@dataclass(slots=True)
class Scan:
    """What was found in the files of one split."""

    name: str
    path: Path
    """The first file."""
    features: Features
    asked: Format | None = None
    """The format that the settings ask for."""
    rows: list[Row] = field(default_factory=list[Row])
    problems: list[Problem] = field(default_factory=list[Problem])
    """What stops the reading."""
    dropped: list[Problem] = field(default_factory=list[Problem])
    """What is wrong with rows that are left out."""
    total: int = 0
    """Rows met."""
    _first_places: dict[Format, tuple[Path, int]] = field(
        default_factory=dict["Format", "tuple[Path, int]"]
    )
    _forest: Forest = field(default_factory=Forest)

    @property
    def format(self) -> Format | None:
        """The format of the split: the one asked for, or that of its first row that has one."""
        return self.asked or next(iter(self._first_places), None)

    @property
    def found(self) -> str:
        """What the split holds, in words."""
        return self.found_of(self._forest.messages, len(self.rows))

    def found_of(self, messages: int, rows: int) -> str:
        """Say what the split holds when it has so many rows, or messages of trees."""
        if self.format == "oasst":
            return f"oasst, {messages:,} messages → {rows:,} conversations"
        noun = "row" if rows == 1 else "rows"
        into = "" if self.format in _AS_THEY_ARE else " → messages"
        return f"{self.format}, {rows:,} {noun}{into}"

    @property
    def dropped_words(self) -> str:
        """How many rows were left out and why, in words."""
        first = self.dropped[0]
        count = f"{len(self.dropped):,} of {self.total:,} rows of {self.name}"
        which = "were left out; the first is" if len(self.dropped) > 1 else "was left out:"
        place = place_of(first.path, first.line)
        return f"{count} {which} {place}: {first.message} {first.hint}"

    def add(self, path: Path, line: int, value: object) -> None:
        """Take one decoded row, or what was wrong with it."""
        self.total += 1
        if isinstance(value, Problem):
            self.problems.append(value)
            return
        if self._is_of_a_tree(value):
            self._first_places.setdefault("oasst", (path, line))
            problem = self._forest.add(cast("dict[str, object]", value), path, line)
            self.dropped.extend([problem] if problem else [])
            return
        row = parse_row(value, self.features, self.format, path, line)
        if isinstance(row, Row):
            self._first_places.setdefault(row.format, (path, line))
            self.rows.append(row)
        elif row.can_drop:
            self._note_format(value, path, line)
            self.dropped.append(row)
        else:
            self.problems.append(self._other_format(path, line, value) or row)

    def finish(self) -> None:
        """Build what takes all rows; rows left out are a reason to stop if they are the most."""
        for row in self._forest.grow():
            if isinstance(row, Row):
                self.rows.append(row)
            else:
                self.dropped.append(row)
        good = max(len(self.rows), self._forest.messages)
        if not self.problems and (len(self.dropped) > good or not self.rows):
            self.problems, self.dropped = self.dropped, []

    def report(self) -> str:
        """The first problem, and how many more rows have one."""
        parts = [self.problems[0].message]
        if len(self._first_places) > 1:
            met = [f"{name} from {place_of(*at)}" for name, at in self._first_places.items()]
            parts.append(f"The file mixes formats: {', '.join(met)}.")
        others = sorted(problem.line for problem in (*self.problems[1:], *self.dropped))
        if others:
            numbers = ", ".join(str(line) for line in others[:_LINES_LISTED])
            dots = ", …" if len(others) > _LINES_LISTED else ""
            unit = place_of(self.path, 1).split()[0]
            noun, verb = (unit, "has") if len(others) == 1 else (f"{unit}s", "have")
            parts.append(f"{len(others)} more {noun} {verb} problems ({noun} {numbers}{dots}).")
        return " ".join(parts)

    def _is_of_a_tree(self, value: object) -> bool:
        """Whether a row is a message of an OpenAssistant tree."""
        if not isinstance(value, dict):
            return False
        row = cast("dict[str, object]", value)
        known = self.format or self.features.detect(row)
        return known == "oasst" and all(key in row for key in TREE_KEYS)

    def _note_format(self, value: object, path: Path, line: int) -> None:
        """Let a row that is left out still say what format the split has."""
        found = self.format or self.features.detect(cast("dict[str, object]", value))
        if found:
            self._first_places.setdefault(found, (path, line))

    def _other_format(self, path: Path, line: int, value: object) -> Problem | None:
        """The problem of a row that would be good in a file of another format."""
        expected = next(iter(self._first_places), None)
        if expected is None or self.asked:
            return None
        row = parse_row(value, self.features, None, path, line)
        if not isinstance(row, Row) or row.format == expected:
            return None
        self._first_places.setdefault(row.format, (path, line))
        first = place_of(*self._first_places[expected])
        message = f"the row is {row.format}, but {first} is {expected}."
        return Problem(path, line, message, "Keep each format in a folder of its own.")
