"""Starts ``lora-tui`` as a process of its own, the way a shell does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
PATIENCE = 100
"""Seconds that no process here needs on the slowest machine."""
NOWHERE = "http://127.0.0.1:9"
"""An address that refuses every connection: a machine without a network."""


@dataclass(frozen=True)
class Outcome:
    """What a finished command left."""

    code: int
    out: str
    err: str
    files: tuple[str, ...] = ()
    """What lay under its home afterwards."""

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of ``--json``."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment with a home of its own and one thread of arithmetic."""
    # Where Python may not keep what it compiled, every start compiles Textual again.
    other = ("HF_", "LORA_TUI", "_LORA", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(other)}
    own = {"LORA_TUI_HOME": str(home), "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return kept | own | dict(extra or {})


def spawn(*arguments: str, home: Path, module: str = "tui", **extra: str) -> subprocess.Popen[str]:
    """Start a command with pipes for its output."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home, extra),
        text=True,
        encoding="utf-8",
    )


def finish(
    process: subprocess.Popen[str], home: Path | None = None, patience: float = PATIENCE
) -> Outcome:
    """Wait for a command's end."""
    out, err = process.communicate(timeout=patience)
    return Outcome(process.returncode, out, err, files_under(home) if home else ())


def run(*arguments: str, home: Path, module: str = "tui", **extra: str) -> Outcome:
    """Run a command to its end."""
    return finish(spawn(*arguments, home=home, module=module, **extra), home)


def until(stream: IO[str], text: str) -> Iterator[str]:
    """Yield lines up to the first that holds the text.

    Raises:
        EOFError: when it never came.
    """
    for line in stream:
        yield line
        if text in line:
            return
    raise EOFError(f"{text!r} never came")


def files_under(folder: Path) -> tuple[str, ...]:
    """Return what lies under a folder, or nothing where it does not exist."""
    return tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
