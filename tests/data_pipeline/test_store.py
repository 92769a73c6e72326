"""Tokens kept on disk: found again, never wrong, never in the way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from engine.data import store
from engine.data.encode import Encoder, encode, encoding
from engine.data.formats import Row
from engine.files import TEMPORARY
from tests.data_pipeline.conftest import CHATML, THINKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = Path("train.jsonl")
ROWS = [
    Row(
        "chat",
        PATH,
        line,
        (
            {"role": "user", "content": f"{line}?"},
            {"role": "assistant", "content": "Paris. " * line},
        ),
    )
    for line in range(1, 30)
]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where tokens are kept."""
    return tmp_path / "cache"


def files(cache: Path) -> list[Path]:
    """What lies there."""
    return sorted(cache.iterdir()) if cache.exists() else []


@pytest.fixture
def no_encoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, rows can only come from the cache."""

    def forbid() -> None:
        def add(*_: object) -> None:
            raise AssertionError("encoded again")

        monkeypatch.setattr(Encoder, "add", add)

    return forbid


def test_the_second_time_tokens_come_from_the_file(
    tokenizer: Any, cache: Path, no_encoding: Callable[[], None]
) -> None:
    plain = encode(ROWS, tokenizer, True, 20)
    first = encode(ROWS, tokenizer, True, 20, cache)
    no_encoding()
    steps = encoding(ROWS, tokenizer, True, 20, cache)
    assert list(steps) == [len(ROWS)]
    again = encode(ROWS, tokenizer, True, 20, cache)
    for split in (first, again):
        assert split.fingerprint() == plain.fingerprint()
        assert split.statistics == plain.statistics
        assert split.lines.tolist() == plain.lines.tolist()
        assert split.trained_counts.tolist() == plain.trained_counts.tolist()
        assert split.note == ""


def test_tokens_are_mapped_and_cannot_be_written(tokenizer: Any, cache: Path) -> None:
    split = encode(ROWS, tokenizer, True, 2048, cache)
    for array in (split.tokens, split.trained, split.offsets, split.lines):
        assert not array.flags.owndata
        assert not array.flags.writeable
    assert (split.tokens.dtype, split.trained.dtype) == (np.int32, np.bool_)


class Case(NamedTuple):
    """What tokens depend on."""

    rows: list[Row] = ROWS
    template: str = CHATML
    mask_prompt: bool = True
    max_seq_length: int = 2048


OTHERS = [
    Case(rows=ROWS[::-1]),
    Case(rows=ROWS[1:]),
    Case(rows=[*ROWS[:-1], Row("chat", PATH, 30, ROWS[-1].messages)]),
    Case(rows=[*ROWS[:-1], Row("chat", PATH, 29, ROWS[-1].messages, ({"name": "clock"},))]),
    Case(template=THINKING),
    Case(mask_prompt=False),
    Case(max_seq_length=20),
]


@pytest.mark.parametrize("other", OTHERS)
def test_whatever_tokens_depend_on_has_a_file_of_its_own(
    tokenizer_with: Callable[[str | None], Any], cache: Path, other: Case
) -> None:
    for case in (Case(), other):
        tokenizer = tokenizer_with(case.template)
        kept = encode(case.rows, tokenizer, case.mask_prompt, case.max_seq_length, cache)
        fresh = encode(case.rows, tokenizer, case.mask_prompt, case.max_seq_length)
        assert kept.fingerprint() == fresh.fingerprint()
        assert kept.lines.tolist() == fresh.lines.tolist()
    assert len(files(cache)) == 2


def test_another_vocabulary_has_a_file_of_its_own(
    tokenizer_with: Callable[[str | None], Any], cache: Path
) -> None:
    tokenizer = tokenizer_with(CHATML)
    encode(ROWS, tokenizer, True, 2048, cache)
    tokenizer.add_tokens(["Paris"])
    try:
        kept = encode(ROWS, tokenizer, True, 2048, cache)
        assert kept.fingerprint() == encode(ROWS, tokenizer, True, 2048).fingerprint()
    finally:
        assert len(files(cache)) == 2


def of_another(content: bytes) -> bytes:
    """A file that is whole, but named as another is."""
    start = content.index(b'"key": "') + len(b'"key": "')
    letter = b"1" if content[start : start + 1] == b"0" else b"0"
    return content[:start] + letter + content[start + 1 :]


def damage_byte(content: bytes) -> bytes:
    """One bit of one token is another."""
    return content[:5000] + bytes([content[5000] ^ 1]) + content[5001:]


DAMAGES: list[Callable[[bytes], bytes]] = [
    damage_byte,
    lambda content: content[:-1],
    lambda content: content[: len(content) // 2],
    lambda content: content + b"\0",
    lambda _: b"",
    lambda content: b"\0" * len(content),
    of_another,
    lambda content: content.replace(b'"rows": 29', b'"rows": 28', 1),
    lambda content: content.replace(b'"longest_line"', b'"tallest_line"', 1),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_whole_is_written_anew(
    tokenizer: Any, cache: Path, damage: Callable[[bytes], bytes]
) -> None:
    good = encode(ROWS, tokenizer, True, 2048, cache).fingerprint()
    (file,) = files(cache)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(content))
    assert file.read_bytes() != content
    assert encode(ROWS, tokenizer, True, 2048, cache).fingerprint() == good
    assert file.read_bytes() == content


def test_a_full_disk_keeps_tokens_in_memory_and_says_so(
    tokenizer: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=100_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    split = encode(ROWS, tokenizer, True, 2048, cache)
    assert split.fingerprint() == encode(ROWS, tokenizer, True, 2048).fingerprint()
    assert split.warnings("train") == (
        f"{cache} has 100 MB free, too little to keep the 0 MB of tokens there and leave room for "
        "checkpoints: they are kept in memory instead.",
    )
    assert files(cache) == []


def test_a_disk_that_fills_up_while_writing(
    tokenizer: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_write", full)
    split = encode(ROWS, tokenizer, True, 2048, cache)
    assert len(split) == len(ROWS)
    assert split.note == (
        f"{cache} cannot be written (No space left on device): "
        "its tokens are kept in memory instead."
    )
    assert files(cache) == []


def test_a_cache_that_is_a_file(tokenizer: Any, cache: Path) -> None:
    cache.write_text("in the way")
    split = encode(ROWS, tokenizer, True, 2048, cache)
    assert split.note.startswith(f"{cache} cannot be written (")
    assert cache.read_text() == "in the way"


def test_a_tokenizer_that_cannot_be_told_apart_is_not_cached(tokenizer: Any, cache: Path) -> None:
    tokenizer_without: Any = type(
        "Plain",
        (),
        {
            "eos_token_id": 0,
            "chat_template": tokenizer.chat_template,
            "apply_chat_template": staticmethod(tokenizer.apply_chat_template),
        },
    )()
    assert encode(ROWS, tokenizer_without, True, 2048, cache).note == ""
    assert files(cache) == []


def test_old_files_go_when_there_are_too_many(
    tokenizer: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for age, length in ((300, 100), (200, 110), (100, 120)):
        encode(ROWS, tokenizer, True, length, cache)
        (new,) = [file for file in files(cache) if file.stat().st_mtime > 1e9]
        os.utime(new, (1e6 - age, 1e6 - age))
    oldest, *others = sorted(files(cache), key=lambda file: file.stat().st_mtime)
    encode(ROWS, tokenizer, True, 100, cache)
    assert oldest.stat().st_mtime > 1e9
    left_behind = cache / f"{TEMPORARY}1-x{store.SUFFIX}"
    left_behind.touch()
    os.utime(left_behind, (0, 0))
    monkeypatch.setattr(store, "CACHE_BYTES", int(2.5 * oldest.stat().st_size))
    split = encode(ROWS, tokenizer, True, 130, cache)
    assert len(files(cache)) == 2
    assert oldest in files(cache)
    assert not any(file.exists() for file in (*others, left_behind))
    assert len(split) == len(ROWS)
