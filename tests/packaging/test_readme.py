"""The README's commands, run as they are written; those that need a network are read closely."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from typing import TYPE_CHECKING

import pytest

from engine.config import load_config, parse_override
from engine.resume import FREE
from tests.packaging.shell import ROOT, UV, run
from tests.tmux import HAS_TMUX, NEEDS_TMUX, Terminal
from tui.bindings import KEYS, keys
from tui.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO, TESTS = "uv run lora-tui demo", "uv run pytest"
AS_IT_IS = {"UV_NO_SYNC": "1", "UV_OFFLINE": "1"}
"""These run in the environment that the README's commands made: nothing is left to install."""
DEMO_SECONDS = 240
"""Far above what it takes: other tests measure that, and the machine may be busy."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_the_first_two_commands_do_all_the_set_up() -> None:
    assert commands()[:2] == [DEMO, TESTS]


@pytest.mark.skipif(not HAS_TMUX, reason=NEEDS_TMUX)
@pytest.mark.timeout(DEMO_SECONDS + 60)
def test_the_demo_trains_to_its_end(tmp_path: Path) -> None:
    environment = os.environ | AS_IT_IS | {"LORA_TUI_HOME": str(tmp_path)}
    with Terminal(DEMO, cwd=ROOT, environment=environment) as terminal:
        terminal.wait_for("completed", DEMO_SECONDS)
        terminal.press("q")
        words = terminal.wait_for("exit code 0", 30)
    assert "Completed at" in words
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["cache", "runs"]


def test_the_tests_are_found_and_are_what_is_checked_before_a_merge() -> None:
    found = run(
        *shlex.split(TESTS), "--collect-only", "-q", "-p", "no:cacheprovider", environment=AS_IT_IS
    )
    assert "tests/packaging/test_readme.py::test_the_tests_are_found" in found
    for file in (".ci/run", "CONTRIBUTING.md"):
        assert TESTS in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("uv run lora-tui run ")])
def test_a_run_of_the_readme_is_one_that_can_be_asked_for(line: str) -> None:
    context = cli.commands["run"].make_context("run", shlex.split(line, comments=True)[4:])
    settings = dict(parse_override(setting) for setting in context.params["settings"])
    if context.params["resume"] is not None:
        assert context.params["source"] is None
        assert set(settings) <= FREE
        return
    config = load_config(context.params["source"], settings)
    assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize("line", [c for c in commands() if c.startswith("uv run lora-tui plan")])
def test_a_plan_of_the_readme_can_be_made(line: str, tmp_path: Path) -> None:
    arguments = [*shlex.split(line)[3:], "--speed", "2", "--json"]
    said = run(
        sys.executable, "-m", "tui", *arguments, environment={"LORA_TUI_HOME": str(tmp_path)}
    )
    assert json.loads(said)["iterations"] == 15_000


USES = (
    "chat",
    "generate",
    "evaluate",
    "compare",
    "fuse",
    "upload",
    "where",
    "report",
    "status",
    "attach",
    "serve",
    "pause",
)


@pytest.mark.parametrize("line", [c for c in commands() if c.split()[3:] and c.split()[3] in USES])
def test_a_use_of_the_readme_is_one_that_can_be_asked_for(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)[3:]
    assert cli.commands[name].make_context(name, arguments).params


def test_cuda_replaces_the_build_for_the_cpu() -> None:
    [line] = [command for command in commands() if command.startswith("uv sync")]
    options = shlex.split(line)[2:]
    packages = run(UV, "export", "--frozen", "--no-hashes", *options)
    assert re.search(r"^mlx-cuda-13==.*linux", packages, re.MULTILINE)
    assert not re.search(r"^mlx-cpu==", packages, re.MULTILINE)


def test_every_command_is_run_or_read_here() -> None:
    read = (
        *("uv run lora-tui run ", "uv run lora-tui runs ", "uv run lora-tui plan"),
        "uv sync",
        *(f"uv run lora-tui {name} " for name in USES),
    )
    assert [c for c in commands() if c not in (DEMO, TESTS) and not c.startswith(read)] == []


def test_the_engine_runs_from_a_few_lines(tmp_path: Path) -> None:
    [program] = blocks("python")
    said = run(sys.executable, "-c", program, environment={"LORA_TUI_HOME": str(tmp_path)})
    assert "Ended(" in said
    assert "status='completed'" in said
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_every_key_of_a_run_is_told() -> None:
    told = re.findall(r"`([^`]+)`", README.partition("## Keys")[2].partition("\n## ")[0])
    shown = {key.shown for key in keys("run", "chart", "back", "app") if key.help}
    assert shown - set(told) == set()


def test_every_key_that_can_be_moved_is_told() -> None:
    part = README.partition("The ids are")[2].partition("An id that")[0]
    told = set(re.findall(r"`([a-z_.]+)`", part))
    known = {key.id for key in KEYS} - {"run.resume"}
    missing = [name for name in known if name not in told and name.partition(".")[2] not in told]
    assert missing == []


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures == ["tests/pictures/demo-120x40.svg", "tests/pictures/demo-80x24.svg"]
    for picture in pictures:
        assert (ROOT / picture).read_text(encoding="utf-8").startswith("<svg")
