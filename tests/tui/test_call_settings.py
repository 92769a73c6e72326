"""Who is called stands in the settings file; what is wrong there is named by its line alone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from engine.callworthy import CALL_KINDS
from engine.channels import NO_APPRISE, CannotCallError
from engine.runs import RunDirectory
from tui import call_settings
from tui.bell import TerminalBell
from tui.call_settings import CallSettings, callers_for, channels_of, load_call_settings
from tui.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t-t0ken"
GOOD = f"""\
theme: ansi-dark
calls:
  - ntfy://{SECRET}
  - json://user:{SECRET}@127.0.0.1/
  - json://127.0.0.1/{SECRET}   # another
call_on: [finished, disk]
"""


def settings_of(folder: Path, text: str) -> CallSettings:
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
    return load_call_settings(folder)


def test_addresses_and_kinds_are_read(tmp_path: Path) -> None:
    assert load_call_settings(tmp_path) == CallSettings()
    assert settings_of(tmp_path, "") == CallSettings()
    found = settings_of(tmp_path, GOOD)
    assert [(a.url.split(":")[0], a.line) for a in found.addresses] == [
        ("ntfy", 3),
        ("json", 4),
        ("json", 5),
    ]
    assert found.kinds == {"finished", "disk"}
    assert found.problems == ()
    assert SECRET not in repr(found)
    # The other reader of the file takes them for known.
    assert load_settings(tmp_path).warning == ""


def test_one_address_needs_no_list(tmp_path: Path) -> None:
    found = settings_of(tmp_path, f"calls: ntfy://{SECRET}\ncall_on: finished\nbell: off\n")
    assert [a.line for a in found.addresses] == [1]
    assert found.kinds == {"finished"}
    assert not found.bell


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"bell: true\ncalls:\n  - {SECRET}\n", "settings.yaml, line 3: calls: this is no address"),
        (f"calls:\n- [{SECRET}]\n", "settings.yaml, line 2: calls: this is no address"),
        (f"calls:\n  slack: {SECRET}\n", "settings.yaml, line 2: calls should be a list"),
        ("call_on: [finished, disc]\n", "line 1: call_on: 'disc' is not one of finished, "),
        ("call_on: [disc]\n", "Did you mean 'disk'?"),
        (f"call_on: [ntfy://{SECRET}]\n", "call_on: 'ntfy://…' is not one of"),
        ("call_on: {a: b}\n", "line 1: call_on should be a list"),
        (f"bell: true\n] {SECRET}\n", "settings.yaml is not YAML in line 2, so nobody is called."),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, text: str, words: str) -> None:
    found = settings_of(tmp_path, text)
    assert words in " ".join(found.problems)
    assert SECRET not in " ".join(found.problems)
    assert found.addresses == ()


def test_a_file_that_cannot_be_read_calls_nobody(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in load_call_settings(tmp_path).problems[0]


def test_services_of_one_kind_are_told_apart_by_their_lines(tmp_path: Path) -> None:
    channels, problems = channels_of(settings_of(tmp_path, GOOD), has_dashboard=True, platform="x")
    assert problems == []
    assert [c.name for c in channels] == ["ntfy://…", "json://… (line 4)", "json://… (line 5)"]


def test_without_apprise_it_is_said_once_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_settings, "has_apprise", lambda: False)
    settings = settings_of(tmp_path, GOOD)
    assert channels_of(settings, has_dashboard=True, platform="x") == ([], [NO_APPRISE])
    # Who wants nobody called does not hear of it.
    assert channels_of(CallSettings(), has_dashboard=True, platform="x") == ([], [])


@pytest.mark.parametrize(
    ("bell", "program", "has_dashboard", "notifies"),
    [
        (True, "Apple_Terminal", True, True),
        (True, "iTerm.app", True, False),
        (True, "iTerm.app", False, True),  # no terminal at all: it runs in the background
        (False, "Apple_Terminal", True, False),
    ],
)
def test_a_mac_notifies_where_the_terminal_does_not(
    bell: bool, program: str, has_dashboard: bool, notifies: bool
) -> None:
    channels, _ = channels_of(
        CallSettings(bell=bell),
        has_dashboard=has_dashboard,
        platform="darwin",
        environment={"TERM": "xterm", "TERM_PROGRAM": program},
    )
    assert [c.name for c in channels] == ["a notification on this Mac"] * notifies


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_terminal_rings_and_says_what_without_disturbing_it() -> None:
    stream = FakeTerminal()
    assert TerminalBell.can_ring(stream, {"TERM": "xterm"})
    assert not TerminalBell.can_ring(stream, {"TERM": "dumb"})
    assert not TerminalBell.can_ring(io.StringIO(), {"TERM": "xterm"})
    assert not TerminalBell.can_ring(None, {"TERM": "xterm"})
    bell = TerminalBell(stream)
    bell.open()
    bell.send("lora-tui: a\x1b[2Jrun finished", "text")
    assert stream.getvalue() == "\x07\x1b]9;a[2Jrun finished\x07"
    stream.close()
    with pytest.raises(CannotCallError):
        bell.send("lora-tui: it", "text")


def test_a_dashboard_is_not_rung_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", FakeTerminal())
    terminal = {"TERM": "xterm"}
    for has_dashboard in (True, False):
        channels, _ = channels_of(
            CallSettings(), has_dashboard=has_dashboard, platform="x", environment=terminal
        )
        assert [c.name for c in channels] == ["the terminal"] * (not has_dashboard)


def test_every_way_gets_a_caller_and_what_is_wrong_is_said_in_the_run(tmp_path: Path) -> None:
    settings_of(tmp_path, f"{GOOD}{'  '}\n")
    run = RunDirectory(tmp_path / "20270115-010203-night")
    names = [getattr(c, "name", "") for c in callers_for(run, tmp_path, has_dashboard=True)]
    assert names[:3] == [
        "calls: ntfy://…",
        "calls: json://… (line 4)",
        "calls: json://… (line 5)",
    ]
    settings_of(tmp_path, "calls: [here]\n")
    complaint = callers_for(run, tmp_path, has_dashboard=True)[-1]
    (words,) = complaint.take_warnings()  # pyright: ignore[reportAttributeAccessIssue]
    assert "line 1: calls: this is no address" in words
    assert set(CALL_KINDS) == load_call_settings(tmp_path).kinds
