"""The hub's cache on this machine, in the layout that all of the hub's programs share.

``blobs`` holds contents by their hash, ``snapshots/COMMIT`` links to them by name, and
``refs/NAME`` says which commit a branch was (https://huggingface.co/docs/huggingface_hub/guides/manage-cache).
Beside them, ``lora-tui`` lists the files that make a snapshot whole, so that it can be told from a
half-downloaded one without a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from engine.files import appearing_folder, write_text
from engine.hub import cache_folder, endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

Kind = Literal["model", "dataset"]
MAIN = "main"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART_SUFFIX = ".lora-tui.incomplete"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository."""

    path: str
    size: int
    """In bytes."""
    digest: str
    """SHA-256 of large files, git's SHA-1 of others; also the name that its content is kept by."""


@dataclass(frozen=True, slots=True)
class Repo:
    """A model or dataset of the hub, and where it is kept."""

    kind: Kind
    name: str
    revision: str | None = None
    """A commit, branch or tag; None means the newest."""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What chooses among a dataset's files, as ``datasets.load_dataset`` takes it."""

    @property
    def label(self) -> str:
        """What a person calls it."""
        return self.name.rpartition("/")[2]

    @property
    def folder(self) -> Path:
        """Where the cache keeps it."""
        return cache_folder() / f"{self.kind}s--{self.name.replace('/', '--')}"

    @property
    def page(self) -> str:
        """Its address, for a person."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    @property
    def api(self) -> str:
        """Its address, for a program."""
        return f"{endpoint()}/api/{self.kind}s/{self.name}"

    def snapshot(self, commit: str) -> Path:
        """Return the folder of one commit's files."""
        return self.folder / "snapshots" / commit

    def part(self, file: HubFile) -> Path:
        """Return where a file grows while it arrives."""
        return self.folder / "blobs" / f"{file.digest}{_PART_SUFFIX}"

    def cached_commit(self) -> str | None:
        """Return the commit that the revision was when it was last asked for."""
        revision = self.revision or MAIN
        if is_commit(revision):
            return revision
        try:
            return (self.folder / "refs" / revision).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def find_whole(self) -> Path | None:
        """Return a folder with the revision's files, if all of them are on this machine.

        That of a dataset has the files that were not chosen too, but empty: without their names
        ``datasets`` would choose otherwise.
        """
        commit = self.cached_commit()
        if commit is None:
            return None
        snapshot = self.snapshot(commit)
        folder = self._own(commit) if self.kind == "dataset" else snapshot
        try:
            text = self._own(commit).with_suffix(".json").read_text(encoding="utf-8")
            sizes = cast("dict[str, int]", json.loads(text)["files"])
            is_whole = bool(sizes) and folder.is_dir()
            return folder if is_whole and all(_has(snapshot / p, sizes[p]) for p in sizes) else None
        except (OSError, ValueError, KeyError, TypeError):
            return folder if self.kind == "model" and _is_whole_model(folder) else None

    def missing(self, commit: str, files: Iterable[HubFile]) -> list[HubFile]:
        """Return those files whose content is not here."""
        return [file for file in files if not self._is_here(commit, file)]

    def arrived_bytes(self, file: HubFile) -> int:
        """Return how much of a file came before."""
        try:
            size = self.part(file).stat().st_size
        except OSError:
            return 0
        return size if size <= file.size else 0

    def adopt(self, file: HubFile) -> None:
        """Keep the content of a file that arrived whole.

        Raises:
            OSError: when it cannot be written.
        """
        self.part(file).replace(self._blob(file))

    def remember(self, commit: str, files: Sequence[HubFile], names: Iterable[str]) -> None:
        """Make a snapshot of contents that are all here, and write down what the revision is now.

        A snapshot has all its files from the start: others take what they find there for whole.

        Args:
            commit: Whose files.
            files: What was fetched.
            names: The names of all that the commit has.

        Raises:
            OSError: when it cannot be written.
        """
        for file in files:
            self._link(commit, file)
        own = self._own(commit)
        own.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "dataset" and not own.is_dir():
            with appearing_folder(own) as temporary:
                self._stand_in(commit, temporary, {file.path for file in files}, names)
        write_text(own.with_suffix(".json"), json.dumps({"files": {f.path: f.size for f in files}}))
        if not is_commit(revision := self.revision or MAIN):
            ref = self.folder / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            write_text(ref, commit)

    def _own(self, commit: str) -> Path:
        """Where this program keeps what it knows of a commit, as far as the options choose."""
        asked = json.dumps(dict(self.options), sort_keys=True, default=str).encode()
        which = f"-{hashlib.sha256(asked).hexdigest()[:16]}" if self.options else ""
        return self.folder / "lora-tui" / f"{commit}{which}"

    def _stand_in(self, commit: str, folder: Path, here: set[str], names: Iterable[str]) -> None:
        """Fill a folder with links to the files that are here, and empty ones for the others."""
        for name in names:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if name in here:
                # The folder takes its name later, but stays where it is.
                place.symlink_to(os.path.relpath(self.snapshot(commit) / name, place.parent))
            else:
                place.touch()

    def _blob(self, file: HubFile) -> Path:
        return self.folder / "blobs" / file.digest

    def _is_here(self, commit: str, file: HubFile) -> bool:
        places = (self.snapshot(commit) / file.path, self._blob(file))
        return any(_has(place, file.size) for place in places)

    def _link(self, commit: str, file: HubFile) -> None:
        place, blob = self.snapshot(commit) / file.path, self._blob(file)
        if _has(place, file.size):
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except OSError:
            # A file system without links: the content lies where its name is.
            blob.replace(place)


def is_commit(revision: str) -> bool:
    """Whether a revision can never mean something else."""
    return _COMMIT.fullmatch(revision) is not None


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _is_whole_model(folder: Path) -> bool:
    """Whether a model that another program downloaded has its config and all its weights."""
    if not (folder / "config.json").is_file():
        return False
    try:
        text = (folder / "model.safetensors.index.json").read_text(encoding="utf-8")
        needed = set(cast("dict[str, str]", json.loads(text)["weight_map"]).values())
    except FileNotFoundError:
        return any(folder.glob("model*.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return all((folder / name).is_file() for name in needed)
