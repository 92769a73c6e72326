"""A full disk, at whichever write: nothing that was good is touched, and the run goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest

from engine import checkpoint, saving
from engine import events as ev
from engine.checkpoint import Snapshot
from engine.errors import DiskFullError
from engine.resume import Resume
from engine.session import Session
from engine.snapshot import tensors_of
from tests.engine.workshop import ENDLESS, finish, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.engine.workshop import Workshop


def snapshot(iteration: int) -> Snapshot:
    arrays = {"a": mx.full((64, 64), float(iteration)), "b": mx.full((3,), float(iteration))}
    return Snapshot(iteration, tensors_of(arrays), tensors_of(arrays), tensors_of(arrays))


class FailingAt:
    """Lets a call through until the nth, which finds the disk full."""

    def __init__(self, call: Any, number: int) -> None:
        self._call = call
        self.left = number

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._call(*given, **named)


@pytest.mark.parametrize("name", ["fsync", "replace", "rename", "mkdir", "link"])
def test_every_write_of_a_checkpoint_may_find_the_disk_full(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "link":
        # Where there are no links a copy is made, and finds the disk full.
        monkeypatch.setattr(os, "link", FailingAt(os.link, -1))
    folder = tmp_path / "adapters"
    folder.mkdir()
    checkpoint.write(folder, snapshot(1))
    errors: list[DiskFullError] = []
    for number in range(1, 30):
        with monkeypatch.context() as patch:
            failing = FailingAt(getattr(os, name), number)
            patch.setattr(os, name, failing)
            if name == "link":
                patch.setattr(shutil, "copyfile", failing)
            try:
                checkpoint.write(folder, snapshot(2))
            except DiskFullError as error:
                errors.append(error)
            else:
                break
        assert checkpoint.verify(folder, 1)["iteration"] == 1
        assert not list(folder.rglob(".tmp-*"))
    assert errors or name == "link"
    assert all("saving needs 16 MB" in error.message for error in errors)
    assert all("What was saved before is intact" in error.hint for error in errors)
    checkpoint.write(folder, snapshot(2))
    assert checkpoint.verify(folder, 2)["iteration"] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk needs the right to mount one")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_folder_that_became_read_only_is_one_clear_error(
    workshop: Workshop, small_disk: Path
) -> None:
    changes = {"iters": 4, "save_every": 2, "val_batches": 0}
    run = workshop.run(str(small_disk / "run"), **changes)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    config = workshop.config(**changes | {"iters": 8})
    session = Session(config, run.directory, Resume(run.directory.adapters))
    ended = finish(session).ended
    assert (ended.status, ended.exit_code) == ("failed", 1)
    assert "cannot be written: Read-only file system" in ended.reason
    assert "copy it to a folder that is and resume it there" in ended.hint


def test_a_run_waits_for_space_and_goes_on(
    workshop: Workshop, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "SPACE_SECONDS", 0.02)
    changes = ENDLESS | {"save_every": 5, "val_batches": 0}
    session = workshop.session(str(small_disk / "run"), **changes)
    session.start()
    seen = wait_for(session, lambda event: isinstance(event, ev.CheckpointSaved))
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 8_000_000))
    seen = wait_for(session, lambda event: isinstance(event, ev.Paused), seen)
    said = [event.why for event in session.events if isinstance(event, ev.Guard)]
    assert "The disk is full: saving needs 16 MB" in said[-1]
    newest = checkpoint.iterations(session.directory.adapters)[-1]
    assert checkpoint.verify(session.directory.adapters, newest)
    filler.unlink()
    seen = wait_for(session, lambda event: isinstance(event, ev.Resumed), seen)
    wait_for(session, lambda event: isinstance(event, ev.CheckpointSaved), seen)
    session.stop()
    run = finish(session)
    assert run.ended.status == "stopped"
    assert run.calls == ["disk"]
