"""Reads rows from local files or the Hugging Face hub, and checks all of them first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.data.formats import Features, Format, Problem, Row
from engine.data.hub import load_parts, load_splits
from engine.data.scan import Scan
from engine.data.sources import FOLDER_HINT, SUFFIXES, find_files, near_name, read_values
from engine.data.split import hold_out
from engine.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from engine.config import HubDataset, RunConfig

__all__ = ["DataRows", "Features", "Reading", "Row", "read_data", "read_split"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows are read, besides the names of their parts."""

    format: Format | None = None
    """What the rows are; None looks at them."""
    validation_split: float = 0.0
    """Share of the training rows that is held out where there are no validation rows."""
    seed: int = 0
    """Chooses the rows that are held out."""
    hub: tuple[HubDataset, ...] = ()
    """Datasets of the hub by their parts; where given, nothing else is read."""
    revision: str | None = None
    """The commit of a dataset of the hub; None means the newest."""
    with_test: bool = False
    """Whether the test parts of ``hub`` are wanted."""

    @classmethod
    def of(cls, config: RunConfig) -> Reading:
        """Return how a run's settings want its data read."""
        return cls(
            format=None if config.data_format == "auto" else config.data_format,
            validation_split=config.validation_split if config.val_batches else 0.0,
            seed=config.seed,
            hub=tuple(config.hf_dataset),
            revision=config.data_revision,
            with_test=config.test,
        )


@dataclass(frozen=True, slots=True)
class DataRows:
    """The rows of all splits; a split that is not there is empty."""

    train: list[Row]
    valid: list[Row]
    test: list[Row]
    found: str = ""
    """What the training rows are: ``alpaca, 51,760 rows → messages``."""
    held_out: int = 0
    """How many of the validation rows were taken from the training rows."""
    dropped: tuple[Problem, ...] = ()
    """What is wrong with the rows left out."""
    notes: tuple[str, ...] = ()
    """What was found and done, in words."""
    warnings: tuple[str, ...] = ()
    """What a person should know, in words."""


def read_data(
    data: str | Path, features: Features, batch_size: int, reading: Reading | None = None
) -> DataRows:
    """Read train, valid and test rows from local files or, if there are none, from the hub.

    A row that is of the right format but cannot be used as it is (an empty turn, speakers that do
    not take turns, a part of the wrong type) is left out and counted, unless most rows are such.

    Args:
        data: A folder in mlx-lm's layout, a file, or ``owner/name`` of a hub dataset.
        features: The names of the rows' parts.
        batch_size: Rows in a training batch.
        reading: How to read; None detects formats and holds nothing out.

    Raises:
        DataError: Anything is missing or wrong; it names the first problem of each split.
    """
    reading = reading or Reading()
    path = Path(data).expanduser()
    if reading.hub:
        scans = _scan_parts(reading)
    elif not is_on_hub(str(data)):
        scans = _scan_files(path, features, reading)
    else:
        scans = _scan_hub(str(data), features, reading)
    _raise_problems(scans)
    _check_same_format(scans)
    train = [row for scan in scans if scan.name == "train" for row in scan.rows]
    if len(train) < batch_size:
        count = len(train)
        raise DataError(
            f"{count} row{'' if count == 1 else 's'}, fewer than the batch size of {batch_size}.",
            scans[0].path,
            hint=f"Add rows, or set batch_size to {count} or less.",
        )
    return _data_rows(scans, train, batch_size, reading)


def read_split(path: Path, features: Features) -> list[Row]:
    """Read one file; in JSON lines blank lines, a BOM and CRLF are accepted.

    Raises:
        DataError: The file cannot be read, is empty, or has rows that cannot be used.
    """
    scan = _scan_file(path, features)
    _raise_problems([scan])
    return scan.rows


def _data_rows(
    scans: Sequence[Scan], train: list[Row], batch_size: int, reading: Reading
) -> DataRows:
    """All splits, a held-out one among them if there is no other to measure on."""
    valid = [row for scan in scans if scan.name == "valid" for row in scan.rows]
    found = ", ".join(scan.found for scan in scans if scan.name == "train")
    notes, warnings = [found], [scan.dropped_words for scan in scans if scan.dropped]
    held_out = 0
    if not valid and reading.validation_split > 0:
        before = len(train)
        train, valid = hold_out(train, reading.validation_split, batch_size, reading.seed)
        held_out = len(valid)
        if valid:
            notes.append(
                f"the data has no validation rows: held out {held_out:,} of {before:,} rows "
                f"by seed {reading.seed} (validation_split: {reading.validation_split:g})"
            )
        else:
            warnings.append(
                "There are no validation rows, and too few rows to hold any out: "
                "the run will not know its validation loss. Add valid.jsonl."
            )
    return DataRows(
        train=train,
        valid=valid,
        test=[row for scan in scans if scan.name == "test" for row in scan.rows],
        found=found,
        held_out=held_out,
        dropped=tuple(problem for scan in scans for problem in scan.dropped),
        notes=tuple(notes),
        warnings=tuple(warnings),
    )


def _scan_files(data: Path, features: Features, reading: Reading) -> list[Scan]:
    """Read the splits of local data, keeping their problems."""
    scans: list[Scan] = []
    for name, paths in find_files(data).items():
        scan = Scan(name, paths[0], features, reading.format)
        for path in paths:
            for line, value in read_values(path):
                scan.add(path, line, value)
        scan.finish()
        scans.append(_with_rows(scan))
    return scans


def _scan_file(path: Path, features: Features) -> Scan:
    """Read one file to its end, keeping its problems."""
    scan = Scan(path.stem, path, features)
    for line, value in read_values(path):
        scan.add(path, line, value)
    scan.finish()
    return _with_rows(scan)


def _with_rows(scan: Scan) -> Scan:
    """The scan, if it found anything."""
    if scan.rows or scan.problems:
        return scan
    hint = "Put rows into it, one JSON object a line."
    if scan.name != "train":
        hint = "Put rows into it or delete it; training goes on without it."
    raise DataError("the file has no rows.", scan.path, hint=hint)


def _scan_hub(name: str, features: Features, reading: Reading) -> list[Scan]:
    """Load the splits of a hub dataset, keeping their problems."""
    loaded = load_splits(name, near_name(Path(name)), reading.revision)
    return [
        _scan_table(Scan(split, Path(name) / split, features, reading.format), rows)
        for split, rows in loaded.items()
    ]


def _scan_parts(reading: Reading) -> list[Scan]:
    """Load the parts of hub datasets that the settings name, keeping their problems."""
    scans: list[Scan] = []
    for dataset in reading.hub:
        features = Features.of(dataset)
        for split, rows in load_parts(dataset, with_test=reading.with_test).items():
            path = Path(dataset.path) / getattr(dataset, f"{split}_split")
            scans.append(_scan_table(Scan(split, path, features, reading.format), rows))
    return scans


def _scan_table(scan: Scan, rows: Iterable[object]) -> Scan:
    for line, value in enumerate(rows, start=1):
        scan.add(scan.path, line, value)
    scan.finish()
    if not scan.rows and not scan.problems:
        raise DataError("the split has no rows.", scan.path, hint=FOLDER_HINT)
    return scan


def _raise_problems(scans: Sequence[Scan]) -> None:
    """Raise one error for the first problem of every split that has any."""
    bad = [scan for scan in scans if scan.problems]
    if not bad:
        return
    first = bad[0].problems[0]
    others = [str(DataError(s.report(), s.problems[0].path, s.problems[0].line)) for s in bad[1:]]
    message = "\n".join([bad[0].report(), *others])
    raise DataError(message, first.path, first.line, first.hint)


def _check_same_format(scans: Sequence[Scan]) -> None:
    """Raise an error where another split is not in the format of the training rows."""
    train = scans[0]
    for scan in scans:
        if scan.name == "train":
            train = scan
        elif scan.format != train.format:
            raise DataError(
                f"the rows are {scan.format}, but those of {train.path.name} are {train.format}.",
                scan.rows[0].path,
                scan.rows[0].line,
                "Bring both into one format.",
            )


def is_on_hub(data: str) -> bool:
    """Whether a name is no folder here, and means the hub rather than a mistyped folder."""
    if Path(data).expanduser().exists() or not _HUB_NAME.fullmatch(data):
        return False
    path = Path(data)
    if not path.parent.is_dir():
        return True
    holders = [
        entry.name
        for entry in path.parent.iterdir()
        if any((entry / f"train{suffix}").exists() for suffix in SUFFIXES)
    ]
    return not did_you_mean(path.name, holders)
