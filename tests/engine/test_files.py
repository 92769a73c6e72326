"""A file appears whole and durable, or what was there before stays."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from engine import files
from engine.files import appearing, write_text

if TYPE_CHECKING:
    from pathlib import Path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with appearing(path) as temporary:
        # MLX adds a suffix of its own where it does not find the one it wants.
        assert temporary.suffix == ".safetensors"
        temporary.write_text("new", encoding="utf-8")
        assert not path.exists()
    assert contents(tmp_path) == {path.name: "new"}


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "a long first text")
    with path.open(encoding="utf-8") as reader:
        write_text(path, "short")
        assert reader.read() == "a long first text"
    assert contents(tmp_path) == {"config.yaml": "short"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "no space left"), ValueError("bad"), KeyboardInterrupt()]
)
def test_a_failing_write_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "config.yaml"
    write_text(path, "old")
    with pytest.raises(type(error)), appearing(path) as temporary:  # noqa: PT012 - the block is what fails
        temporary.write_text("half of the n", encoding="utf-8")
        raise error
    assert contents(tmp_path) == {"config.yaml": "old"}


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "config.yaml", "old")
    with pytest.raises(FileNotFoundError), appearing(tmp_path / "config.yaml"):
        pass
    assert contents(tmp_path) == {"config.yaml": "old"}


def test_a_folder_in_the_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").mkdir()
    with pytest.raises(OSError, match="config"):
        write_text(tmp_path / "config.yaml", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "missing" / "config.yaml", "new")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_not_written_through(tmp_path: Path) -> None:
    """Its temporary may be a link to a checkpoint, and this process may have its number."""
    precious = tmp_path / "precious"
    precious.write_text("old", encoding="utf-8")
    path = tmp_path / "config.yaml"
    with appearing(path) as temporary:
        temporary.write_text("first", encoding="utf-8")
        name = temporary.name
    os.link(precious, tmp_path / name)
    write_text(path, "new")
    assert contents(tmp_path) == {"precious": "old", "config.yaml": "new"}


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.yaml"
    synced: list[tuple[str, bool]] = []

    def record(what: Path) -> None:
        synced.append(("folder" if what == tmp_path else "file", path.exists()))

    monkeypatch.setattr(files, "sync", record)
    write_text(path, "new")
    assert synced == [("file", False), ("folder", True)]


def test_sync_tells_what_the_system_refuses(tmp_path: Path) -> None:
    files.sync(tmp_path)
    with pytest.raises(FileNotFoundError):
        files.sync(tmp_path / "missing")
