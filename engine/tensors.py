"""Writes arrays as a safetensors file in one pass, from views of memory, and its checksum with it.

MLX's own writer has to run on the trainer's thread; this one needs only the bytes, so that a
checkpoint can be written while training goes on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALIGNMENT = 8
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Tensor:
    """One array's bytes, C-contiguous."""

    dtype: str
    """The format's own name, such as F32."""
    shape: tuple[int, ...]
    data: memoryview


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> str:
    """Write a safetensors file and return its checksum; making it durable is left to the caller.

    Source: https://github.com/huggingface/safetensors#format

    Raises:
        OSError: when it cannot be written.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.data.nbytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        head = memoryview(len(text).to_bytes(8, "little") + text)
        for part in (head, *(t.data for t in tensors.values() if t.data.nbytes)):
            whole = part.cast("B")
            at = 0
            while at < len(whole):
                # A disk that fills up takes a part of what it was given without complaint.
                written = file.write(whole[at : at + _CHUNK_BYTES])
                digest.update(whole[at : at + written])
                at += written
    return digest.hexdigest()


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
