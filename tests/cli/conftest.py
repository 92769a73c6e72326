"""A tiny model and data for it, and a home that is thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.cli.program import Outcome, run
from tests.tiny import make_tiny_data, make_tiny_model
from tui.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Tiny:
    """A model and data that train in a second, and where configurations for them go."""

    folder: Path
    model: Path
    data: Path

    def config(self, name: str = "tiny", **changes: Any) -> str:
        """Write a configuration and return its path; a setting of None is left out."""
        values: dict[str, Any] = {
            "model": str(self.model),
            "data": str(self.data),
            "iters": 6,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "num_layers": -1,
            "steps_per_report": 2,
            "steps_per_eval": 3,
            "save_every": 4,
            "sample_rows": 0,
            "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.0},
        } | changes
        path = self.folder / f"{name}.yaml"
        given = {key: value for key, value in values.items() if value is not None}
        path.write_text(yaml.safe_dump(given), encoding="utf-8")
        return str(path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    return Tiny(folder, make_tiny_model(folder / "model"), make_tiny_data(folder / "data"))


@pytest.fixture(scope="session")
def home_of_run(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one run, called as the last of its folder."""
    home = tmp_path_factory.mktemp("used")
    config = tiny.config("used", learning_rate=1e-2)
    outcome = run("run", config, "--plain", "--run-dir", str(home / "runs" / "town"), home=home)
    assert outcome.code == 0, outcome.err
    return home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that does not exist yet."""
    path = tmp_path / "home"
    monkeypatch.setenv("LORA_TUI_HOME", str(path))
    return path


@pytest.fixture
def call(home: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Calls the command line in this process: for what ends before a run would load."""

    def run(*arguments: str) -> Outcome:
        code = main(arguments)
        out, err = capfd.readouterr()
        return Outcome(code, out, err, tuple(str(p) for p in home.rglob("*")))

    return run
