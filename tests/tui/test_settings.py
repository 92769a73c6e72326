"""The settings file is followed where it is right, and one warning names the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tui.conftest import watched
from tui.app import LoraTuiApp
from tui.help import help_text
from tui.settings import Settings, load_settings, read_settings, shown_keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tui.scripted import ScriptedRun


def settings_of(folder: Path, text: str) -> Settings:
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
    return load_settings(folder)


def test_without_a_file_everything_is_as_it_comes(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()
    assert settings_of(tmp_path, "") == Settings()


def test_keys_theme_and_bell_are_read(tmp_path: Path) -> None:
    text = "theme: ansi-dark\nbell: false\nkeys:\n  run.checkpoint: w\n  chart.closer: 1, ctrl+u\n"
    found = settings_of(tmp_path, text)
    keys = {"run.checkpoint": "w", "chart.closer": "1,ctrl+u"}
    assert found == Settings("ansi-dark", bell=False, keys=keys)
    assert found.warning == ""


def test_pause_takes_resume_along() -> None:
    assert read_settings({"keys": {"run.pause": "p"}}).keys == {"run.pause": "p", "run.resume": "p"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": "red"}, "Nothing is called 'colour'"),
        ({"theme": "pink"}, "There is no theme 'pink'"),
        ({"bell": "loud"}, "bell is true or false"),
        ({"keys": {"run.fly": "w"}}, "No key has the id 'run.fly'"),
        ({"keys": {"run.abort": "spcae"}}, "run.abort: 'spcae' is no key"),
        ({"keys": {"run.abort": None}}, "run.abort: nothing is no key"),
        ({"keys": ["w"]}, "keys should be ids with their keys"),
        ({"keys": {"run.abort": "c"}}, "run.abort: c is already run.checkpoint's"),
        ({"keys": {"run.abort": "?"}}, "run.abort: ? is already app.help's"),
        (["theme"], "it should hold keys, theme and bell"),
    ],
)
def test_what_is_wrong_is_named_and_left_out(values: object, words: str) -> None:
    found = read_settings(values)
    assert words in found.warning
    assert found.keys == {}
    assert found.theme == Settings().theme


def test_two_keys_may_change_places() -> None:
    found = read_settings({"keys": {"run.evaluate": "s", "run.sample": "e"}})
    assert found.keys == {"run.evaluate": "s", "run.sample": "e"}
    assert not found.problems


def test_one_wrong_line_spoils_no_other() -> None:
    found = read_settings({"keys": {"run.abort": "c", "run.sample": "w"}, "bell": False})
    assert found.keys == {"run.sample": "w"}
    assert not found.bell
    assert len(found.problems) == 1


def test_a_file_that_is_no_yaml_says_where(tmp_path: Path) -> None:
    assert "it is not YAML in line 2." in settings_of(tmp_path, "bell: true\n]\n").warning
    (tmp_path / "settings.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in load_settings(tmp_path).warning


def test_the_help_page_shows_moved_keys() -> None:
    moved = {"run.checkpoint": "w", "chart.smoother": "f2"}
    rows = help_text(76, moved).plain.splitlines()
    assert any(row.startswith("  w          Save the adapters") for row in rows)
    assert any(row.startswith("  f2 -       Average over more") for row in rows)
    assert shown_keys(["run.abort"], moved) == ""


@pytest.mark.parametrize("width", [30, 57, 70])
def test_long_descriptions_go_on_below_their_beginning(width: int) -> None:
    for row in help_text(width).plain.splitlines():
        assert len(row) <= width
        assert not row or row[0] != " " or row[:2] == "  "
    rows = help_text(57).plain.splitlines()
    (at,) = [i for i, row in enumerate(rows) if "What to do when memory" in row]
    assert rows[at + 1].startswith(" " * 13 + "protect or abort")


async def test_the_app_follows_them_and_warns_once(run: ScriptedRun) -> None:
    settings = read_settings({"theme": "lora-light", "keys": {"run.checkpoint": "w", "no": "x"}})
    app = LoraTuiApp(run, now=run.now, settings=settings)
    async with watched(app, (100, 30)) as seen:
        assert app.theme == "lora-light"
        await seen.pilot.pause(0.1)
        assert "No key has the id 'no'" in seen.text()
        await seen.press("c")
        assert run.calls == ["start"]
        await seen.press("w")
        assert run.calls == ["start", "checkpoint"]
        titles = [c.title for c in app.get_system_commands(app.screen)]
        assert "Checkpoint (w)" in titles
