"""Finds the presets that come with the program; light, so that listing them is instant."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def preset_names() -> list[str]:
    """Return the names of the presets that come with the program."""
    files = resources.files("presets").iterdir()
    return sorted(Path(f.name).stem for f in files if f.name.endswith(".yaml"))


def preset_path(name: str) -> Path:
    """Return the file of a preset."""
    return presets_folder() / f"{name}.yaml"


def presets_folder() -> Path:
    """Return the folder that holds the presets."""
    return Path(str(resources.files("presets")))


def preset_summary(name: str) -> str:
    """Return a preset's first comment line, which says what it is for; empty where it has none."""
    with preset_path(name).open(encoding="utf-8") as file:
        first = file.readline()
    return first.removeprefix("#").strip() if first.startswith("#") else ""
