"""Finds the files of local data and decodes their rows, one at a time.

JSON is decoded here, line by line where it has lines, so that a bad row can be named. Everything
else is read by ``datasets``, as a stream: nothing is copied, and no network is needed.
"""

from __future__ import annotations

import csv
import glob
import json
import logging
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from engine.data.formats import Problem
from engine.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

SUFFIXES = {
    ".jsonl": "json",
    ".json": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".csv": "csv",
    ".tsv": "csv",
}
"""Which reader each kind of file has; where a split is there twice, the first kind is read."""
SPLITS = {"train": ("train",), "valid": ("valid", "validation", "val"), "test": ("test",)}
"""The names that files of each split go by."""

FOLDER_HINT = (
    "Name a folder that holds train.jsonl (and valid.jsonl), a file of rows, "
    "or a dataset of the Hugging Face hub as owner/name."
)
_KINDS_HINT = f"Rows are read from files that end in {', '.join(SUFFIXES)}."
_JSON_HINT = (
    "Each line must be one whole JSON object: no list around the rows, no line breaks in a row."
)
TORN_HINT = "Get or write the file again: it is not whole."
_NAMES_LISTED = 5


def find_files(data: Path) -> dict[str, list[Path]]:
    """Return the files of each split: of a folder, or of one file, which is all training rows.

    A folder's files are called after their splits, in parts or not (``train-00000-of-00002``), and
    may lie in a folder ``data``, as in a copy from the hub. A single file may have any name.

    Raises:
        DataError: there is nothing to train on.
    """
    if not data.exists():
        kind = "file" if data.suffix in SUFFIXES else "folder"
        raise DataError(f"no such {kind}.{near_name(data)}", data, hint=FOLDER_HINT)
    if data.is_file():
        if data.suffix not in SUFFIXES:
            raise DataError("this is not a file of rows.", data, hint=_KINDS_HINT)
        return {"train": [data]}
    try:
        names = sorted(entry.name for entry in data.iterdir())
        nested = data / "data"
        files = [p for f in (data, nested) if f.is_dir() for p in sorted(f.iterdir())]
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}.", data, hint=FOLDER_HINT) from error
    if not names:
        raise DataError("the folder is empty.", data, hint="Put train.jsonl into it.")
    files = [path for path in files if path.suffix in SUFFIXES and path.is_file()]
    splits = {split: _of_split(files, split) for split in SPLITS}
    if not splits["train"] and len(files) == 1:
        splits = {"train": files}
    if not splits["train"]:
        most = f" and {len(names) - _NAMES_LISTED} more" if len(names) > _NAMES_LISTED else ""
        raise DataError(
            f"the folder has no train.jsonl, only {', '.join(names[:_NAMES_LISTED])}{most}.",
            data,
            hint=f"Put the training rows into train.jsonl, one JSON object a line. {_KINDS_HINT}",
        )
    return {split: found for split, found in splits.items() if found}


def read_values(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the number, from 1, and the value or the problem of every row of a file.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    kind = SUFFIXES.get(path.suffix, "json")
    try:
        if kind != "json":
            yield from enumerate(_table(path, kind), start=1)
        elif path.suffix == ".json" and _is_list(path):
            yield from enumerate(_json_list(path), start=1)
        else:
            yield from _json_lines(path)
    except OSError as error:
        raise DataError(
            f"cannot be read: {error.strerror or error}.",
            path,
            hint="Check the name and the permissions.",
        ) from error


def near_name(path: Path) -> str:
    """Return a guess at a mistyped path: the nearest name beside its first part that is missing."""
    missing = path
    while not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        return ""
    beside = [entry.name for entry in missing.parent.iterdir()]
    if missing.suffix in SUFFIXES:
        # What files of rows have in common is no likeness.
        stems = {Path(name).stem: name for name in beside if Path(name).suffix in SUFFIXES}
        nearest = did_you_mean(missing.stem, stems)
        beside = [name for stem, name in stems.items() if f"'{stem}'" in nearest]
    return did_you_mean(missing.name, beside)


def _of_split(files: Iterable[Path], split: str) -> list[Path]:
    """A split's files, all of one kind."""
    named = [
        path
        for path in files
        if any(path.stem == n or path.stem.startswith(f"{n}-") for n in SPLITS[split])
    ]
    for suffix in SUFFIXES:
        of_kind = [path for path in named if path.suffix == suffix]
        if of_kind:
            return of_kind
    return []


def _is_list(path: Path) -> bool:
    """Whether a JSON file is one list of rows rather than a row a line."""
    with path.open("rb") as file:
        for line in file:
            content = line.removeprefix(b"\xef\xbb\xbf").strip()
            if content:
                return content.startswith(b"[")
    return False


def _json_list(path: Path) -> list[object]:
    try:
        value: object = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"not valid JSON: {error.msg} at {where}.", path, hint=TORN_HINT) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}.", path, hint=TORN_HINT) from None
    return cast("list[object]", value)


def _json_lines(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the line number and the value, or the problem, of every line that is not blank."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            content = (raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()
            if content:
                yield number, _decode(content, path, number, is_torn=not raw.endswith(b"\n"))


def _decode(raw: bytes, path: Path, number: int, *, is_torn: bool) -> object:
    """One line's value, or its problem; the last line of a half-written file has no end."""
    try:
        value: object = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        if is_torn and number > 1:
            return Problem(path, number, "the file ends in the middle of this row.", TORN_HINT)
        if isinstance(error, UnicodeDecodeError):
            return Problem(path, number, "the line is not UTF-8 text.", "Save the file as UTF-8.")
        reason = str(error)
        if isinstance(error, json.JSONDecodeError):
            reason = f"{error.msg} at column {error.colno}"
        return Problem(path, number, f"the line is not valid JSON: {reason}.", _JSON_HINT)
    return value


def _table(path: Path, kind: str) -> Iterator[object]:
    """Stream the rows of a table."""
    # Imported here: it takes seconds, and JSON does not need it.
    datasets: Any = import_module("datasets")
    exceptions: Any = import_module("datasets.exceptions")
    if path.stat().st_size == 0:
        return
    options: dict[str, Any] = {}
    if kind == "csv":
        separator = "\t" if path.suffix == ".tsv" else ","
        # Every column is text: an answer "42" must not become a number, nor "NA" be missing.
        text = datasets.Value("string")
        features = datasets.Features(dict.fromkeys(_header(path, separator), text))
        options = {"sep": separator, "features": features, "na_filter": False}
    try:
        with _quiet("datasets"):
            yield from datasets.load_dataset(
                kind, data_files=[glob.escape(str(path))], split="train", streaming=True, **options
            )
    except (OSError, ValueError, RuntimeError, KeyError, exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"cannot be read as {path.suffix[1:]}: {reason}", path, hint=TORN_HINT
        ) from error


@contextmanager
def _quiet(name: str) -> Generator[None]:
    """Keep a library from logging the error that it also raises."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _header(path: Path, separator: str) -> list[str]:
    """The names of a table's columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            names = next(csv.reader(file, delimiter=separator), list[str]())
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"its first line cannot be read: {error}.", path) from error
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise DataError(
            "its first line does not name every column once.",
            path,
            hint="Begin the file with the columns' names, such as instruction,input,output.",
        )
    return names
