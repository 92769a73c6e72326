"""Reads rows from a local folder or the Hugging Face hub, and checks all of them first."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.formats import Features, Format, Problem, Row, parse_row
from engine.data.hub import load_splits
from engine.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DataRows", "Features", "Row", "read_data", "read_split"]

_SPLITS = ("train", "valid", "test")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FOLDER_HINT = (
    "Name a folder that holds train.jsonl (and valid.jsonl), "
    "or a dataset of the Hugging Face hub as owner/name."
)
_JSON_HINT = (
    "Each line must be one whole JSON object: no list around the rows, no line breaks in a row."
)
_LINES_LISTED = 5


@dataclass(frozen=True, slots=True)
class DataRows:
    """The rows of all splits; a split that is not there is empty."""

    train: list[Row]
    valid: list[Row]
    test: list[Row]


def read_data(data: str | Path, features: Features, batch_size: int) -> DataRows:
    """Read train, valid and test rows from a folder or, if there is none, from the hub.

    Args:
        data: A folder in mlx-lm's layout, or ``owner/name`` of a hub dataset.
        features: The names of the rows' parts.
        batch_size: Rows in a training batch.

    Raises:
        DataError: Anything is missing or wrong; it names the first problem of each file.
    """
    folder = Path(data).expanduser()
    if folder.exists() or not _is_hub_name(str(data)):
        splits = _scan_folder(folder, features)
    else:
        splits = _scan_hub(str(data), features)
    _raise_problems(splits.values())
    _check_same_format(splits)
    train = splits["train"]
    if len(train.rows) < batch_size:
        count = len(train.rows)
        raise DataError(
            f"{count} row{'' if count == 1 else 's'}, fewer than the batch size of {batch_size}.",
            train.path,
            hint=f"Add rows, or set batch_size to {count} or less.",
        )
    rows = {name: split.rows for name, split in splits.items()}
    return DataRows(rows["train"], rows.get("valid", []), rows.get("test", []))


def read_split(path: Path, features: Features) -> list[Row]:
    """Read one file of JSON lines; blank lines, a BOM and CRLF are accepted.

    Raises:
        DataError: The file cannot be read, is empty, or has a line that is not a row.
    """
    split = _scan_file(path, features)
    _raise_problems([split])
    return split.rows


@dataclass(slots=True)
class _Split:
    """What was found in one file."""

    path: Path
    features: Features
    rows: list[Row] = field(default_factory=list[Row])
    problems: list[Problem] = field(default_factory=list[Problem])
    first_lines: dict[Format, int] = field(default_factory=dict[Format, int])
    """Where each format was first met, in order."""

    @property
    def format(self) -> Format | None:
        """The format of the file: that of its first row that has one."""
        return next(iter(self.first_lines), None)

    def add(self, line: int, value: object) -> None:
        """Take one decoded line."""
        row = parse_row(value, self.features, self.format, self.path, line)
        if isinstance(row, Row):
            self.first_lines.setdefault(row.format, line)
            self.rows.append(row)
        else:
            self.problems.append(self._other_format(line, value) or row)

    def _other_format(self, line: int, value: object) -> Problem | None:
        """The problem of a row that would be good in a file of another format."""
        expected = self.format
        if expected is None:
            return None
        row = parse_row(value, self.features, None, self.path, line)
        if not isinstance(row, Row) or row.format == expected:
            return None
        self.first_lines.setdefault(row.format, line)
        message = f"the row is {row.format}, but line {self.first_lines[expected]} is {expected}."
        return Problem(line, message, "Keep each format in a folder of its own.")

    def report(self) -> str:
        """The first problem, and how many more lines have one."""
        parts = [self.problems[0].message]
        if len(self.first_lines) > 1:
            met = [f"{name} from line {line}" for name, line in self.first_lines.items()]
            parts.append(f"The file mixes formats: {', '.join(met)}.")
        others = [problem.line for problem in self.problems[1:]]
        if others:
            numbers = ", ".join(str(line) for line in others[:_LINES_LISTED])
            dots = ", …" if len(others) > _LINES_LISTED else ""
            noun, verb = ("line", "has") if len(others) == 1 else ("lines", "have")
            parts.append(f"{len(others)} more {noun} {verb} problems ({noun} {numbers}{dots}).")
        return " ".join(parts)


def _raise_problems(splits: Iterable[_Split]) -> None:
    """Raise one error for the first problem of every file that has any."""
    bad = [split for split in splits if split.problems]
    if not bad:
        return
    first = bad[0].problems[0]
    others = [f"{split.path}, line {split.problems[0].line}: {split.report()}" for split in bad[1:]]
    message = "\n".join([bad[0].report(), *others])
    raise DataError(message, bad[0].path, first.line, first.hint)


def _check_same_format(splits: dict[str, _Split]) -> None:
    """Raise an error where another split is not in the format of the training rows."""
    train = splits["train"]
    for split in splits.values():
        if split.format != train.format:
            raise DataError(
                f"the rows are {split.format}, but those of {train.path.name} are {train.format}.",
                split.path,
                split.rows[0].line,
                "Bring both into one format.",
            )


def _scan_folder(folder: Path, features: Features) -> dict[str, _Split]:
    """Read the splits of a local folder, keeping their problems."""
    if not folder.exists():
        raise DataError(f"no such folder.{_near_folder(folder)}", folder, hint=_FOLDER_HINT)
    if not folder.is_dir():
        raise DataError("this is a file, not a folder.", folder, hint=_FOLDER_HINT)
    try:
        found = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", folder, hint=_FOLDER_HINT) from error
    if not found:
        raise DataError("the folder is empty.", folder, hint="Put train.jsonl into it.")
    if "train.jsonl" not in found:
        most = f" and {len(found) - _LINES_LISTED} more" if len(found) > _LINES_LISTED else ""
        names = ", ".join(found[:_LINES_LISTED]) + most
        raise DataError(
            f"the folder has no train.jsonl, only {names}.",
            folder,
            hint="Put the training rows into train.jsonl, one JSON object a line.",
        )
    paths = {name: folder / f"{name}.jsonl" for name in _SPLITS}
    return {name: _scan_file(path, features) for name, path in paths.items() if path.exists()}


def _scan_file(path: Path, features: Features) -> _Split:
    """Read one file to its end, keeping its problems."""
    split = _Split(path, features)
    try:
        for line, value in _decoded_lines(path):
            if isinstance(value, Problem):
                split.problems.append(value)
            else:
                split.add(line, value)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror}.", path, hint="Check the name and the permissions."
        ) from error
    if not split.rows and not split.problems:
        hint = "Put rows into it, one JSON object a line."
        if path.stem != "train":
            hint = "Put rows into it or delete it; training goes on without it."
        raise DataError("the file has no rows.", path, hint=hint)
    return split


def _decoded_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the line number and the value, or the problem, of every line that is not blank."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            content = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()
            if content:
                yield number, _decode(content, number)


def _decode(raw: bytes, number: int) -> object:
    """One line's value, or its problem."""
    try:
        value: object = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return Problem(number, "the line is not UTF-8 text.", "Save the file as UTF-8.")
    except json.JSONDecodeError as error:
        message = f"the line is not valid JSON: {error.msg} at column {error.colno}."
        return Problem(number, message, _JSON_HINT)
    except (ValueError, RecursionError) as error:
        return Problem(number, f"the line is not valid JSON: {error}.", _JSON_HINT)
    return value


def _scan_hub(name: str, features: Features) -> dict[str, _Split]:
    """Load the splits of a hub dataset, keeping their problems."""
    near = _near_folder(Path(name))
    splits: dict[str, _Split] = {}
    for split_name, values in load_splits(name, near).items():
        split = _Split(Path(name) / split_name, features)
        for line, value in enumerate(values, start=1):
            split.add(line, value)
        if not split.rows and not split.problems:
            raise DataError("the split has no rows.", split.path, hint=_FOLDER_HINT)
        splits[split_name] = split
    return splits


def _is_hub_name(data: str) -> bool:
    """Whether a name that is no folder here means the hub rather than a mistyped folder."""
    if not _HUB_NAME.fullmatch(data):
        return False
    path = Path(data)
    if not path.parent.is_dir():
        return True
    holders = [entry.name for entry in path.parent.iterdir() if (entry / "train.jsonl").exists()]
    return not did_you_mean(path.name, holders)


def _near_folder(folder: Path) -> str:
    """A guess at a mistyped folder: the nearest name beside its first part that is missing."""
    missing = folder
    while not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        return ""
    beside = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    return did_you_mean(missing.name, beside)
