"""Runs several command lines one after the other in one process, so that MLX is loaded once.

``python -m tests.cli.batch '[["run", "x.yaml", "--plain"], …]'`` prints what each of them left.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.cli.program import Outcome, files_under
from tui.cli import main

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def _into(file: IO[bytes], descriptor: int) -> Generator[None]:
    kept = os.dup(descriptor)
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)


def _outcome(arguments: list[str], home: Path) -> Outcome:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _into(out, 1), _into(err, 2):
            code = main(arguments)
            sys.stdout.flush()
        texts: list[str] = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return Outcome(code, texts[0], texts[1], files_under(home))


if __name__ == "__main__":
    place = Path(os.environ["LORA_TUI_HOME"])
    outcomes = [asdict(_outcome(line, place)) for line in json.loads(sys.argv[1])]
    sys.stdout.write(json.dumps(outcomes))
