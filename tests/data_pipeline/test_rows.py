"""Rows from local files: the formats, what is tolerated, and every bad input's message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.data.formats import Features
from engine.data.rows import read_split
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Write = Callable[[str, Sequence[object]], Path]

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}
PAIR = {"prompt": "Hi", "completion": "Yes?"}
TEXT = {"text": "Hi there"}
FORMATS = (
    'A row is one of {"messages": [{"role": "user", "content": "…"}, …]}, '
    '{"prompt": "…", "completion": "…"} or {"text": "…"}; '
    "Alpaca, ShareGPT and OpenAssistant rows are known too."
)


def problem(path: Path, features: Features | None = None) -> DataError:
    """The error that reading a file raises."""
    with pytest.raises(DataError) as caught:
        read_split(path, features or Features())
    return caught.value


def test_reads_chat_rows_with_tools(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [CHAT, {**CHAT, "tools": [{"name": "clock"}]}])
    first, second = read_split(path, Features())
    assert (first.format, first.line, first.path) == ("chat", 1, path)
    assert list(first.messages) == CHAT["messages"]
    assert first.tools is None
    assert second.tools == ({"name": "clock"},)


def test_prompt_and_completion_become_messages(write_jsonl: Write) -> None:
    (row,) = read_split(write_jsonl("train.jsonl", [PAIR]), Features())
    assert row.format == "prompt/completion"
    assert list(row.messages) == CHAT["messages"]


def test_reads_text_rows(write_jsonl: Write) -> None:
    (row,) = read_split(write_jsonl("train.jsonl", [TEXT]), Features())
    assert (row.format, row.text, row.messages) == ("text", "Hi there", ())


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({**PAIR, **CHAT, **TEXT}, "prompt/completion"),
        ({**CHAT, **TEXT, "prompt": "alone"}, "chat"),
        ({**TEXT, "completion": "alone"}, "text"),
    ],
)
def test_format_preference_is_that_of_mlx_lm(
    write_jsonl: Write, row: dict[str, Any], expected: str
) -> None:
    (read,) = read_split(write_jsonl("train.jsonl", [row]), Features())
    assert read.format == expected


def test_features_rename_the_keys(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [{"instruction": "Hi", "output": "Yes?"}])
    (row,) = read_split(path, Features(prompt="instruction", completion="output"))
    assert [message["content"] for message in row.messages] == ["Hi", "Yes?"]


def test_blank_lines_bom_and_crlf_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n   \n{"text": "b\xe2\x80\xa8c"}\r\n\n\n')
    rows = read_split(path, Features())
    assert [(row.line, row.text) for row in rows] == [(1, "a"), (4, "b\u2028c")]


def test_assistant_may_only_call_tools_and_nulls_are_left_out(write_jsonl: Write) -> None:
    call: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    user = {"role": "user", "content": "Hi", "tool_calls": None}
    path = write_jsonl("train.jsonl", [{"messages": [user, call], "tools": None}])
    (row,) = read_split(path, Features())
    assert row.messages == ({"role": "user", "content": "Hi"}, call)


BAD_LINES = [
    (
        '{"text": "a"',
        "the line is not valid JSON: Expecting ',' delimiter at column 13.",
        "Each line must be one whole JSON object: no list around the rows, no line breaks "
        "in a row.",
    ),
    ('["a"]', "the line holds a list, not an object.", FORMATS),
    ('"a"', "the line holds a string, not an object.", FORMATS),
    ("3", "the line holds a number, not an object.", FORMATS),
    ("null", "the line holds null, not an object.", FORMATS),
    ("{}", "the row is in no known format; its keys are none.", FORMATS),
    (
        '{"mesages": []}',
        "the row is in no known format; its keys are 'mesages'. Did you mean 'messages'?",
        FORMATS,
    ),
    (
        '{"instruction": "a", "outputs": "c"}',
        "the row is in no known format; its keys are 'instruction', 'outputs'. "
        "Did you mean 'output'?",
        FORMATS,
    ),
    (
        '{"conversations": []}',
        "the conversation has no turns.",
        "Fill the turn or delete the row.",
    ),
    ('{"text": 3}', "'text' must be a string, not a number.", FORMATS),
    (
        '{"prompt": "a", "completion": ["b"]}',
        "'completion' must be a string, not a list.",
        FORMATS,
    ),
    ('{"messages": "a"}', "'messages' must be a list, not a string.", FORMATS),
    ('{"messages": []}', "'messages' is empty.", "Give it messages or delete the line."),
    ('{"messages": ["a"]}', "message 1 must be an object, not a string.", FORMATS),
    (
        '{"messages": [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]}',
        "the role 'asistant' of message 2 is unknown. Did you mean 'assistant'?",
        "Roles are system, developer, user, assistant, tool, function and ipython.",
    ),
    (
        '{"messages": [{"role": 1, "content": "a"}]}',
        "the 'role' of message 1 must be a string, not a number.",
        "Roles are system, developer, user, assistant, tool, function and ipython.",
    ),
    (
        '{"messages": [{"role": "user"}]}',
        "message 1 has no 'content'; its keys are 'role'.",
        FORMATS,
    ),
    (
        '{"messages": [{"role": "user", "content": {"text": "a"}}]}',
        "the 'content' of message 1 must be a string, not an object.",
        FORMATS,
    ),
    (
        '{"messages": [{"role": "assistant", "content": true}]}',
        "the 'content' of message 1 must be a string, not true.",
        FORMATS,
    ),
    (
        '{"messages": [{"role": "user", "content": "a"}], "tools": {}}',
        "'tools' must be a list, not an object.",
        "Leave it out if there are none.",
    ),
]


@pytest.mark.parametrize(("line", "message", "hint"), BAD_LINES)
def test_bad_first_line(write_jsonl: Write, line: str, message: str, hint: str) -> None:
    path = write_jsonl("train.jsonl", ["", line])
    error = problem(path)
    assert error.message == f"{path}, line 2: {message}"
    assert error.hint == hint
    assert (error.path, error.line) == (path, 2)


def test_one_bad_json_line_among_good_ones(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [TEXT, TEXT, "{'text': 1}", TEXT])
    assert problem(path).message == (
        f"{path}, line 3: the line is not valid JSON: "
        "Expecting property name enclosed in double quotes at column 2."
    )


def test_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "caf\xe9"}\n')
    error = problem(path)
    assert error.message == f"{path}, line 2: the line is not UTF-8 text."
    assert error.hint == "Save the file as UTF-8."


def test_json_nested_too_deep(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", ["[" * 100_000])
    assert problem(path).message.startswith(f"{path}, line 1: the line is not valid JSON: ")


def test_key_missing_from_a_later_row(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [TEXT, {"txt": "b"}])
    assert problem(path).message == (
        f"{path}, line 2: the row has no 'text'; its keys are 'txt'. Did you mean 'text'?"
    )


def test_mixed_formats_name_the_first_line_of_each(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [CHAT, TEXT, CHAT, PAIR, TEXT])
    error = problem(path)
    assert error.message == (
        f"{path}, line 2: the row is text, but line 1 is chat. "
        "The file mixes formats: chat from line 1, text from line 2, "
        "prompt/completion from line 4. 2 more lines have problems (lines 4, 5)."
    )
    assert error.hint == "Keep each format in a folder of its own."


def test_every_line_is_checked_and_counted(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [TEXT, "x", *["y"] * 7, TEXT])
    assert problem(path).message.endswith("7 more lines have problems (lines 3, 4, 5, 6, 7, …).")
    path = write_jsonl("train.jsonl", ["x", TEXT, {"text": 1}])
    assert problem(path).message.endswith(" 1 more line has problems (line 3).")


@pytest.mark.parametrize("content", ["", "\n \r\n"])
def test_file_without_rows(tmp_path: Path, content: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(content)
    error = problem(path)
    assert error.message == f"{path}: the file has no rows."
    assert error.hint == "Put rows into it, one JSON object a line."


def test_file_missing(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    assert problem(path).message == f"{path}: cannot be read: No such file or directory."
