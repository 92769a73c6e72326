"""Keeps the tokens of a split in a file, and maps them from it.

Mapped tokens cost no memory of their own: the system reads a page when a batch needs it, and takes
it back when it is short. A file's name is the hash of all that its tokens depend on. It holds a
line of JSON, padded with spaces, and the arrays one after the other; its own hash is checked before
it is used, and a file that does not have it is written anew.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from engine.data.encoded import EncodedSplit, EncodeStatistics
from engine.files import TEMPORARY, appearing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engine.data.formats import Row
    from engine.data.turns import Tokenizer

SUFFIX = ".tokens"
CACHE_BYTES = 4_000_000_000
"""What the folder may hold; the files used least recently go first."""
_VERSION = 1
"""Of the file and of how rows become tokens: raise it when either changes."""
_HEADER_BYTES = 4096
_SPARE_BYTES = 200_000_000
"""What a full disk must still have for checkpoints."""
_STALE_SECONDS = 24 * 3600.0
_LIBRARIES = ("mlx-lm", "tokenizers", "transformers")
_KINDS = {"offsets": "<i8", "tokens": "<i4", "lines": "<i4", "trained": "|b1"}
"""The arrays in their order in the file, widest first, so that each begins at its own size."""


@dataclass(frozen=True, slots=True)
class TokenStore:
    """The file of one split."""

    path: Path
    key: str

    @classmethod
    def of(
        cls,
        folder: Path,
        rows: Sequence[Row],
        tokenizer: Tokenizer,
        mask_prompt: bool,
        max_seq_length: int,
    ) -> TokenStore | None:
        """Name the file for these rows, tokenizer and settings; None if it cannot be told apart."""
        identity = _identity(tokenizer)
        if identity is None:
            return None
        digest = hashlib.sha256(identity)
        digest.update(json.dumps([mask_prompt, max_seq_length]).encode())
        for row in rows:
            part = (row.format == "text", row.line, row.messages, row.tools, row.text)
            digest.update(json.dumps(part, default=str).encode() + b"\n")
        key = digest.hexdigest()
        return cls(folder / f"{key[:32]}{SUFFIX}", key)

    def load(self) -> EncodedSplit | None:
        """Map the file's arrays; None if it is not there, or not whole."""
        try:
            with self.path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            split = _read(content, self.key)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if split:
            self._touch()
        return split

    def save(self, split: EncodedSplit) -> EncodedSplit:
        """Write the file and return the split mapped from it; with a note if that failed."""
        needed = _HEADER_BYTES + sum(array.nbytes for array in _arrays(split).values())
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path.parent).free
            if free < needed + _SPARE_BYTES:
                return replace(split, note=_no_room(self.path.parent, needed, free))
            with appearing(self.path) as temporary:
                _write(temporary, split, self.key)
            self._prune()
        except OSError as error:
            reason = f"{self.path.parent} cannot be written ({error.strerror or error})"
            return replace(split, note=f"{reason}: its tokens are kept in memory instead.")
        return self.load() or split

    def _touch(self) -> None:
        """Mark the file as used now; it may belong to somebody else."""
        try:
            os.utime(self.path)
        except OSError:
            return

    def _prune(self) -> None:
        """Delete the files used least recently, and what killed processes left."""
        now = time.time()
        for path in self.path.parent.glob(f"{TEMPORARY}*{SUFFIX}"):
            if now - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)
        files = [(path.stat(), path) for path in self.path.parent.glob(f"[!.]*{SUFFIX}")]
        held = 0
        for status, path in sorted(files, key=lambda file: -file[0].st_mtime):
            held += status.st_size
            if held > CACHE_BYTES and path != self.path:
                path.unlink(missing_ok=True)


def _identity(tokenizer: Tokenizer) -> bytes | None:
    """Everything of a tokenizer that tokens depend on; None if it does not show it."""
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "to_str"):
        return None
    template = getattr(tokenizer, "chat_template", None)
    versions = [version(name) for name in _LIBRARIES]
    parts = [_VERSION, versions, tokenizer.eos_token_id, template]
    return json.dumps(parts, default=str).encode() + backend.to_str().encode()


def _arrays(split: EncodedSplit) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(getattr(split, name), kind) for name, kind in _KINDS.items()}


def _write(path: Path, split: EncodedSplit, key: str) -> None:
    """Write the arrays, and before them what they are."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        file.seek(_HEADER_BYTES)
        for array in _arrays(split).values():
            content = np.ascontiguousarray(array).data.cast("B")
            digest.update(content)
            file.write(content)
        header = {
            "key": key,
            "rows": len(split),
            "tokens": len(split.tokens),
            "sha256": digest.hexdigest(),
            "statistics": asdict(split.statistics),
        }
        line = json.dumps(header).encode()
        if len(line) >= _HEADER_BYTES:
            raise OSError(f"the header of {path.name} is too long")
        file.seek(0)
        file.write(line.ljust(_HEADER_BYTES - 1) + b"\n")


def _read(content: mmap.mmap, key: str) -> EncodedSplit | None:
    """The split that a file holds; None if it is another's, or damaged."""
    header = cast("dict[str, Any]", json.loads(content[:_HEADER_BYTES]))
    rows, tokens = int(header["rows"]), int(header["tokens"])
    counts = {"offsets": rows + 1, "tokens": tokens, "lines": rows, "trained": tokens}
    sizes = {name: counts[name] * np.dtype(kind).itemsize for name, kind in _KINDS.items()}
    if header["key"] != key or len(content) != _HEADER_BYTES + sum(sizes.values()):
        return None
    view = memoryview(content)[_HEADER_BYTES:]
    if hashlib.sha256(view).hexdigest() != header["sha256"]:
        return None
    arrays: dict[str, Any] = {}
    start = 0
    for name, kind in _KINDS.items():
        arrays[name] = np.frombuffer(view[start : start + sizes[name]], kind)
        start += sizes[name]
    statistics = header["statistics"] | {"histogram": tuple(header["statistics"]["histogram"])}
    return EncodedSplit(**arrays, statistics=EncodeStatistics(**statistics))


def _no_room(folder: Path, needed: int, free: int) -> str:
    return (
        f"{folder} has {free / 1e6:,.0f} MB free, too little to keep the {needed / 1e6:,.0f} MB "
        "of tokens there and leave room for checkpoints: they are kept in memory instead."
    )
