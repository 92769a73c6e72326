"""engine/awake.py with stand-ins for the tools that hold a machine awake."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from engine import awake
from engine.awake import KeepAwake, keep_awake, sleep_warning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Tool = Callable[[str, str], Path]

RECORD = '#!/bin/sh\necho $$ "$@" > "$0.tmp"\nmv "$0.tmp" "$0.record"\n'


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """Put a program on a PATH that holds only it and the system's own."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")

    def write(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    return write


def recorded(path: Path) -> list[str]:
    """What the tool wrote: its process id and arguments."""
    record = path.with_name(f"{path.name}.record")
    wait_for(record.exists)
    return record.read_text().split()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until, "waited 5 s in vain"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_at_work(process: psutil.Process) -> bool:
    """Whether a process that may be nobody's child by now still runs; a zombie does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_caffeinate_holds_a_mac_until_the_end(tool: Tool) -> None:
    path = tool("caffeinate", RECORD + "exec sleep 60\n")
    with KeepAwake(4242, "darwin") as keeper:
        pid, *arguments = recorded(path)
        assert arguments == ["-is", "-w", "4242"]
        assert keeper.method == "caffeinate"
        assert is_running(int(pid))
    assert keeper.method is None
    assert not is_running(int(pid))


def test_systemd_inhibit_holds_linux_and_its_children_end_too(tool: Tool) -> None:
    path = tool("systemd-inhibit", RECORD + 'shift 3\n"$@"\n')
    with KeepAwake(os.getpid(), "linux") as keeper:
        pid, *arguments = recorded(path)
        assert arguments[0] == "--what=idle:sleep"
        assert keeper.method == "systemd-inhibit"
        assert os.getpgid(int(pid)) == int(pid)
        assert os.getsid(int(pid)) != os.getsid(0)
        wait_for(lambda: bool(psutil.Process(int(pid)).children()))
        waiter = psutil.Process(int(pid)).children()
    assert keeper.method is None
    assert waiter
    wait_for(lambda: not any(is_at_work(process) for process in waiter))


def test_the_inhibitor_ends_with_the_process_it_was_made_for(tool: Tool) -> None:
    tool("systemd-inhibit", '#!/bin/sh\nshift 3\nexec "$@"\n')
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with KeepAwake(ended.pid, "linux") as keeper:
        wait_for(lambda: keeper.method is None)
        assert keeper.method is None


def test_the_tool_is_silent(tool: Tool, capfd: pytest.CaptureFixture[str]) -> None:
    path = tool("caffeinate", "#!/bin/sh\necho noise\necho noise >&2\n" + RECORD + "cat\n")
    with KeepAwake(1, "darwin") as keeper:
        recorded(path)
        # An empty standard input ends cat; a terminal's would not.
        wait_for(lambda: keeper.method is None)
    assert capfd.readouterr() == ("", "")


def test_a_tool_that_will_not_end_is_killed(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "_STOP_SECONDS", 0.1)
    path = tool("caffeinate", "#!/bin/sh\ntrap '' TERM\n" + RECORD + "while :; do sleep 1; done\n")
    with KeepAwake(1, "darwin"):
        pid = int(recorded(path)[0])
    assert not is_running(pid)


@pytest.mark.parametrize(
    "script", ["#!/bin/sh\nexit 1\n", "\x00\x01 not a program", "#!/nowhere\n"]
)
def test_a_tool_that_fails_changes_nothing(tool: Tool, script: str) -> None:
    tool("caffeinate", script)
    with KeepAwake(1, "darwin") as keeper:
        wait_for(lambda: keeper.method is None)
        assert not keeper.is_awake


@pytest.mark.parametrize("platform", ["darwin", "linux", "win32"])
def test_without_a_tool_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with KeepAwake(1, platform) as keeper:
        assert keeper.method is None
    assert keeper.method is None


@pytest.mark.parametrize(
    ("platform", "has_systemd", "is_awake"),
    [("linux", False, True), ("linux", True, False), ("darwin", False, False)],
)
def test_what_nothing_holds_is_awake_only_where_nothing_sleeps(
    tool: Tool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    has_systemd: bool,
    is_awake: bool,
) -> None:
    for name in ("systemd-inhibit", "caffeinate"):
        tool(name, "#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(awake, "SYSTEMD", tmp_path if has_systemd else tmp_path / "none")
    with KeepAwake(1, platform) as keeper:
        wait_for(lambda: keeper.method is None)
        assert keeper.is_awake == is_awake


def test_an_error_inside_ends_the_tool_and_passes(tool: Tool) -> None:
    path = tool("caffeinate", RECORD + "exec sleep 60\n")

    def fail_inside() -> None:
        with KeepAwake(1, "darwin"):
            recorded(path)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert not is_running(int(recorded(path)[0]))


def test_this_machine_never_raises() -> None:
    with keep_awake() as keeper:
        assert keeper.method in (None, "caffeinate", "systemd-inhibit")
    assert keeper.method is None


@pytest.mark.parametrize(
    ("on_battery", "lid_closed", "method", "word"),
    [
        (True, True, "caffeinate", "on battery"),
        (False, True, "caffeinate", "lid is closed"),
        (None, True, None, "lid is closed"),
        (True, False, "caffeinate", "On battery"),
        (True, None, None, "On battery"),
        (False, False, None, "Nothing keeps"),
        (None, None, None, "Nothing keeps"),
    ],
)
def test_what_may_still_put_it_to_sleep(
    on_battery: bool | None, lid_closed: bool | None, method: str | None, word: str
) -> None:
    assert word in sleep_warning(on_battery, lid_closed, method)


def test_nothing_to_warn_of() -> None:
    assert sleep_warning(False, False, "caffeinate") == ""
    assert sleep_warning(None, None, "systemd-inhibit") == ""
