"""Looks at the first rows of local training data: what they are and how long, in a moment.

Unlike a run it reads no more than ``MOST_ROWS`` rows of a split, and tables without ``datasets``,
whose import alone takes longer than a plan may. What it cannot read is left to the run to say.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.formats import Features
from engine.data.scan import Scan
from engine.data.sources import SUFFIXES, TORN_HINT, find_files, read_values
from engine.data.split import held_out_count
from engine.errors import DataError, place_of
from engine.model_files import is_local

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.config import RunConfig
    from engine.data.formats import Row

MOST_ROWS = 4000
"""Rows that are looked at; the others are taken to be like them."""
MOST_LIST_BYTES = 100_000_000
"""The largest list in a JSON file that is read; it can only be read whole."""
_COUNTED_BYTES = 400_000_000
"""What is counted of a file's lines; the rest is taken to be like it."""
_BLOCK = 1 << 20
_TOO_MANY = "\0too many"


@dataclass(frozen=True, slots=True)
class Glance:
    """What can be told of local data at once."""

    found: str
    """``alpaca, 51,760 rows → messages``; empty where nothing could be read."""
    rows: tuple[Row, ...]
    """Those looked at."""
    train_rows: int
    """Rows to train on in the end, counted or extrapolated."""
    is_whole: bool
    """Whether all rows were looked at."""
    held_out: int = 0
    """Rows that will be held out to measure on."""
    dropped: str = ""
    """How many of the rows looked at cannot be used, and why the first of them; or nothing."""
    problem: str = ""
    """What a run would be refused for, and what to do; or nothing."""


def glance(config: RunConfig) -> Glance | None:
    """Look at a run's training rows; None where they are not here."""
    data = Path(config.data).expanduser()
    if config.hf_dataset or not is_local(config.data):
        return None
    asked = None if config.data_format == "auto" else config.data_format
    try:
        splits = find_files(data)
        files = splits["train"]
        scan = Scan("train", files[0], Features.of(config), asked)
        seen, total = _scan(scan, files)
        scan.finish()
    except DataError as error:
        return _unusable(f"{error.message} {error.hint}".strip())
    if scan.problems:
        first = scan.problems[0]
        where = f"{first.path.name}, {place_of(first.path, first.line)}: "
        return _unusable(f"{where}{scan.report()} {first.hint}")
    if not scan.rows:
        return _unusable(f"{files[0]}: the file has no rows.")
    return _told(config, scan, seen, total, has_valid="valid" in splits)


def _told(config: RunConfig, scan: Scan, seen: int, total: int, *, has_valid: bool) -> Glance:
    count = round(len(scan.rows) * total / seen)
    share = config.validation_split if config.val_batches and not has_valid else 0.0
    held_out = held_out_count(count, share, config.batch_size)
    problem = ""
    if count - held_out < config.batch_size:
        problem = (
            f"{count:,} row{'' if count == 1 else 's'}, fewer than the batch size of "
            f"{config.batch_size}. Add rows, or set batch_size to {count} or less."
        )
    return Glance(
        found=scan.found if seen == total else scan.found_of(total, count),
        rows=tuple(scan.rows),
        train_rows=count - held_out,
        is_whole=seen == total,
        held_out=held_out,
        dropped=scan.dropped_words if scan.dropped else "",
        problem=problem,
    )


def _unusable(problem: str) -> Glance:
    return Glance("", (), 0, is_whole=True, problem=problem)


def _scan(scan: Scan, files: Iterable[Path]) -> tuple[int, int]:
    """Take the first rows of all files; return how many were met, and how many there are."""
    seen = total = 0
    for path in files:
        try:
            rows, count = _rows(path)
            met = 0
            for line, value in islice(rows, max(0, MOST_ROWS - seen)):
                scan.add(path, line, value)
                met += 1
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}.", path) from error
        # Short of the limit the file has ended.
        total += met if seen + met < MOST_ROWS else max(met, count())
        seen += met
    return seen, total


def _rows(path: Path) -> tuple[Iterator[tuple[int, object]], Any]:
    """A file's rows by number from 1, and what says how many there are."""
    kind = SUFFIXES.get(path.suffix, "json")
    if kind == "csv":
        return _csv_rows(path)
    if kind in {"parquet", "arrow"}:
        return _table_rows(path, kind)
    if path.suffix == ".json" and path.stat().st_size > MOST_LIST_BYTES:
        raise DataError("a list this long is only read when the run begins.", path)
    values = list(read_values(path)) if path.suffix == ".json" else None
    if values is not None:
        return iter(values), lambda: len(values)
    return read_values(path), lambda: _lines(path)


def _csv_rows(path: Path) -> tuple[Iterator[tuple[int, object]], Any]:
    file = path.open(encoding="utf-8-sig", newline="")
    reader = csv.DictReader(
        file,
        restkey=_TOO_MANY,
        restval="",
        delimiter="\t" if path.suffix == ".tsv" else ",",
        strict=True,
    )
    numbered = [0]

    def rows() -> Iterator[tuple[int, object]]:
        with file:
            try:
                for number, row in enumerate(reader, start=1):
                    if _TOO_MANY in row:
                        raise csv.Error("it has more parts than the first line has names")
                    numbered[0] = number
                    yield number, row
            except (csv.Error, UnicodeDecodeError) as error:
                reason = f"row {numbered[0] + 1}: {error}"
                raise DataError(
                    f"cannot be read as {path.suffix[1:]}: {reason}.", path, hint=TORN_HINT
                ) from error

    # A cell may have line breaks in it; the first line has the names.
    return rows(), lambda: round(numbered[0] * (_lines(path) - 1) / max(1, reader.line_num - 1))


def _table_rows(path: Path, kind: str) -> tuple[Iterator[tuple[int, object]], Any]:
    """Rows of a Parquet or Arrow file, a batch in memory at a time."""
    arrow: Any = import_module("pyarrow")
    try:
        if kind == "parquet":
            file: Any = import_module("pyarrow.parquet").ParquetFile(path)
            return _numbered(file.iter_batches(batch_size=500)), lambda: file.metadata.num_rows
        mapped: Any = arrow.memory_map(str(path))
        batches = list(_arrow_batches(import_module("pyarrow.ipc"), arrow, mapped))
    except arrow.ArrowException as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot be read as {kind}: {reason}", path, hint=TORN_HINT) from error
    return _numbered(batches), lambda: sum(batch.num_rows for batch in batches)


def _arrow_batches(ipc: Any, arrow: Any, mapped: Any) -> Iterator[Any]:
    """Batches of a stream, which ``datasets`` writes, or of a file; mapped, they take no memory."""
    try:
        yield from ipc.open_stream(mapped)
    except arrow.ArrowInvalid:
        mapped.seek(0)
        file = ipc.open_file(mapped)
        yield from (file.get_batch(i) for i in range(file.num_record_batches))


def _numbered(batches: Iterable[Any]) -> Iterator[tuple[int, object]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, 500):
            for row in batch.slice(start, 500).to_pylist():
                number += 1
                yield number, row


def _lines(path: Path) -> int:
    """A file's lines; of a huge one, as if it went on like its beginning."""
    size, read, breaks, last = path.stat().st_size, 0, 0, b"\n"
    with path.open("rb") as file:
        while read < _COUNTED_BYTES and (block := file.read(_BLOCK)):
            read += len(block)
            breaks += block.count(b"\n")
            last = block[-1:]
    if read < size:
        return round(breaks * size / read)
    return breaks + (last != b"\n")
