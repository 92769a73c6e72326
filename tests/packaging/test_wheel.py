"""The wheel holds the program and nothing else, and runs where nothing of this folder is."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from tests.packaging.shell import ROOT, UV, run

if TYPE_CHECKING:
    from pathlib import Path

# One process builds and installs it, not each.
pytestmark = pytest.mark.xdist_group("wheel")
PACKAGES = {"engine", "presets", "tui"}
MOST_DEMO_MODEL_BYTES = 4_000_000


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--wheel", "--out-dir", folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment with the wheel, and the lock file's versions, in it."""
    folder = tmp_path_factory.mktemp("installed")
    versions, environment = folder / "versions.txt", folder / "environment"
    what = ("--no-default-groups", "--extra", "cpu", "--no-emit-project", "--no-hashes")
    versions.write_text(run(UV, "export", "--frozen", *what))
    run(UV, "venv", environment)
    python = environment / "bin" / "python"
    run(UV, "pip", "install", "--python", python, "--constraint", versions, f"{wheel}[cpu]")
    return environment / "bin"


def names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_top_level_is_three_packages(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in names(wheel)}
    [metadata] = top - PACKAGES
    assert metadata.endswith(".dist-info")
    assert top > PACKAGES


def test_every_module_is_in_it(wheel: Path) -> None:
    modules = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
    }
    assert modules
    assert {name for name in names(wheel) if name.endswith(".py")} == modules


def test_the_page_for_browsers_is_in_it(wheel: Path) -> None:
    assert "tui/served.html" in names(wheel)


def test_the_demo_is_in_it(wheel: Path) -> None:
    found = names(wheel)
    assert {
        "presets/demo.yaml",
        "presets/demo/data/train.jsonl",
        "presets/demo/data/valid.jsonl",
    } < (found)
    assert {f"presets/demo/model/{name}" for name in ("config.json", "tokenizer.json")} < found
    with ZipFile(wheel) as archive:
        weights = archive.getinfo("presets/demo/model/model.safetensors")
    assert 0 < weights.file_size <= MOST_DEMO_MODEL_BYTES


def test_the_licence_is_in_it(wheel: Path) -> None:
    [name] = [name for name in names(wheel) if name.endswith("/licenses/LICENSE")]
    with ZipFile(wheel) as archive:
        assert archive.read(name) == (ROOT / "LICENSE").read_bytes()


def test_it_says_its_version_elsewhere(programs: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = run(
        programs / "lora-tui", "--version", cwd=tmp_path, environment={"HOME": str(tmp_path)}
    )
    assert said == f"lora-tui {project['version']}\n"


def test_it_has_its_presets_elsewhere(programs: Path, tmp_path: Path) -> None:
    said = run(programs / "lora-tui", "presets", cwd=tmp_path, environment={"HOME": str(tmp_path)})
    presets = {file.stem for file in (ROOT / "presets").glob("*.yaml")}
    assert {line.split()[0] for line in said.splitlines()} == presets
    assert "demo" in presets
    assert not any(tmp_path.iterdir())
