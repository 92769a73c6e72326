"""What importing a room brings into the process: only so is it proven what is deferred."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCREEN = {"rich", "textual", "tui"}
TRAINING = {"datasets", "mlx", "mlx_lm", "numpy", "transformers"}
PROGRAM = """
import importlib, json, sys
for name in {names!r}:
    importlib.import_module(name)
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def brought_in(*names: str) -> set[str]:
    """The packages that a fresh process has after importing these modules."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(names=names)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    return set(json.loads(done.stdout))


def modules_of(package: str) -> list[str]:
    files = (file.relative_to(ROOT) for file in sorted((ROOT / package).rglob("[!_]*.py")))
    return [".".join(file.with_suffix("").parts) for file in files]


@pytest.mark.parametrize("name", ["tui.app", "tui.cli", "tui.cli_run", "tui.cli_home"])
def test_the_screen_is_there_before_mlx(name: str) -> None:
    assert not brought_in(name) & TRAINING


def test_the_engine_can_be_told_what_to_do_before_mlx() -> None:
    rooms = ("config", "events", "journal", "runs", "session", "view")
    assert not brought_in(*(f"engine.{room}" for room in rooms)) & (TRAINING | SCREEN)


def test_no_room_of_the_engine_knows_a_screen() -> None:
    found = brought_in(*modules_of("engine"))
    # mlx_lm brings Rich along; that no line of ours names it is what import-linter says.
    assert not found & {"textual", "tui"}
    assert "mlx" in found


def test_every_room_of_the_screen_leaves_mlx_alone() -> None:
    assert not brought_in(*modules_of("tui")) & TRAINING
