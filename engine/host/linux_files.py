"""Reads the small text files by which Linux tells its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def text(path: Path) -> str | None:
    """Return a file's text without the spaces around it; None where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None


def integer(path: Path) -> int | None:
    """Return the whole number that a file holds; None where there is none."""
    return _integer(text(path))


def table(path: Path) -> dict[str, int]:
    """Return lines such as ``MemFree: 12 kB`` or ``pswpin 3`` as numbers, ``kB`` in bytes.

    Lines of another form are left out; a file that cannot be read gives an empty table.
    """
    found: dict[str, int] = {}
    for line in (text(path) or "").splitlines():
        words = line.split()
        value = _integer(words[1]) if len(words) in (2, 3) else None
        if value is not None:
            found[words[0].rstrip(":")] = value * 1024 if words[2:] == ["kB"] else value
    return found


def folders(parent: Path, pattern: str = "*") -> list[Path]:
    """Return what lies in a folder, in order; nothing where it cannot be read."""
    try:
        return sorted(parent.glob(pattern))
    except OSError:
        return []


def _integer(word: str | None) -> int | None:
    try:
        return None if word is None else int(word)
    except ValueError:
        return None
