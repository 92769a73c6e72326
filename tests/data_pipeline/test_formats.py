"""Formats that others use: detected, turned into messages, and told what is wrong with them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.data.formats import Features
from engine.data.rows import Reading, read_data
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine.data.rows import DataRows

    Write = Callable[[str, Sequence[object]], Path]

ALPACA = {"instruction": "Name a colour.", "input": "", "output": "Blue."}
SAID = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"}]


def read(path: Path, **reading: Any) -> DataRows:
    """All rows of a file."""
    return read_data(path, Features(), 1, Reading(**reading))


def problem(path: Path, **reading: Any) -> DataError:
    """The error that reading a file raises."""
    with pytest.raises(DataError) as caught:
        read(path, **reading)
    return caught.value


def turns(rows: DataRows, row: int = 0) -> list[str]:
    """A row's turns as the first letter of the role and the content."""
    return [f"{m['role'][0]}:{m['content']}" for m in rows.train[row].messages]


def test_alpaca(write_jsonl: Write) -> None:
    rows = read(
        write_jsonl(
            "train.jsonl",
            [
                ALPACA,
                {"instruction": "Sum up.", "input": "Long.\nText.", "output": "Short."},
                {"instruction": "Hi", "input": None, "output": "Yes?", "text": "### Instruction"},
                {"instruction": "Hi", "output": "Yes?", "system": "Be brief."},
            ],
        )
    )
    assert [turns(rows, row) for row in range(4)] == [
        ["u:Name a colour.", "a:Blue."],
        ["u:Sum up.\n\nLong.\nText.", "a:Short."],
        ["u:Hi", "a:Yes?"],
        ["s:Be brief.", "u:Hi", "a:Yes?"],
    ]
    assert rows.found == "alpaca, 4 rows → messages"
    assert rows.notes == (rows.found,)


@pytest.mark.parametrize("key", ["conversations", "conversation", "messages"])
def test_sharegpt(write_jsonl: Write, key: str) -> None:
    spoken = [{"from": "system", "value": "Be brief."}, *SAID, {"from": "Human", "value": "Bye"}]
    rows = read(write_jsonl("train.jsonl", [{"id": "x", key: spoken}]))
    assert turns(rows) == ["s:Be brief.", "u:Hi", "a:Yes?", "u:Bye"]
    assert rows.found == "sharegpt, 1 row → messages"


def test_sharegpt_with_the_system_beside_it_and_with_other_names(write_jsonl: Write) -> None:
    given = {"system": "Be brief.", "conversations": [*SAID]}
    named = {"conversations": [{"role": "user", "content": "a"}, {"role": "gpt", "content": "b"}]}
    rows = read(write_jsonl("train.jsonl", [given, named]))
    assert turns(rows) == ["s:Be brief.", "u:Hi", "a:Yes?"]
    assert turns(rows, 1) == ["u:a", "a:b"]


def test_llama2_text_is_unwrapped(write_jsonl: Write) -> None:
    texts = [
        "<s>[INST] Hi [/INST] Yes? </s>",
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yes? </s><s>[INST] Bye [/INST] Bye! "
        "</s>",
        "[INST]What\nis [/b]?[/INST]It.\n\nReally [1].[INST]And?[/INST]",
    ]
    rows = read(write_jsonl("train.jsonl", [{"text": text} for text in texts]))
    assert [turns(rows, row) for row in range(3)] == [
        ["u:Hi", "a:Yes?"],
        ["s:Be brief.", "u:Hi", "a:Yes?", "u:Bye", "a:Bye!"],
        ["u:What\nis [/b]?", "a:It.\n\nReally [1].", "u:And?"],
    ]
    assert rows.found == "llama-2, 3 rows → messages"


def test_llama2_text_may_be_kept_as_it_is(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [{"text": "<s>[INST] Hi [/INST] Yes? </s>"}])
    rows = read(path, format="text")
    assert (rows.train[0].text, rows.found) == ("<s>[INST] Hi [/INST] Yes? </s>", "text, 1 row")


def test_llama2_rows_that_are_not_whole_turns_are_left_out(write_jsonl: Write) -> None:
    good = {"text": "<s>[INST] Hi [/INST] Yes? </s>"}
    path = write_jsonl("train.jsonl", [good, {"text": "Hi"}, {"text": "<s>[INST] Hi"}, good, good])
    rows = read(path)
    assert [row.line for row in rows.train] == [1, 4, 5]
    assert rows.warnings == (
        "2 of 5 rows of train were left out; the first is line 2: "
        "'text' is not whole turns of [INST] … [/INST]. "
        "Mend the row, or set data_format to text to train on the texts as they are.",
    )


def message(name: str, parent: str | None, role: str, rank: float | None = None) -> dict[str, Any]:
    """A flat row of an OpenAssistant tree."""
    keys = {"message_id": name, "parent_id": parent, "role": role, "rank": rank}
    return {**keys, "text": name, "lang": "en", "deleted": False}


def test_oasst_trees_give_their_best_ranked_paths(write_jsonl: Write) -> None:
    path = write_jsonl(
        "train.jsonl",
        [
            message("a2", "q1", "assistant", 1.0),
            message("q1", None, "prompter"),
            message("a1", "q1", "assistant", 0.0),
            message("deeper", "a2", "prompter"),
            message("and", "deeper", "assistant"),
            message("yet", "and", "prompter"),
            message("still", "yet", "assistant"),
            message("p1", "a1", "prompter"),
            message("p2", "a1", "prompter"),
            message("b1", "p2", "assistant"),
            message("p3", "b1", "prompter"),
            message("q2", None, "prompter"),
            message("q3", None, "prompter"),
            {**message("gone", "q3", "assistant", 0.0), "deleted": True},
            message("below", "gone", "prompter"),
            message("kept", "q3", "assistant", 1.0),
            message("lost", "nowhere", "prompter"),
        ],
    )
    rows = read(path)
    assert [turns(rows, row) for row in range(2)] == [
        ["u:q1", "a:a1", "u:p2", "a:b1"],
        ["u:q3", "a:kept"],
    ]
    assert [row.line for row in rows.train] == [2, 13]
    assert rows.found == "oasst, 17 messages → 2 conversations"
    assert rows.warnings == (
        "1 of 17 rows of train was left out: line 12: "
        "nobody answered the message that begins the tree. Delete the tree.",
    )


def test_oasst_columns_of_the_wrong_type(write_jsonl: Write) -> None:
    good = [message("q", None, "prompter"), message("a", "q", "assistant")]
    path = write_jsonl(
        "train.jsonl", [*good, {**good[1], "text": None}, {**good[1], "role": "bot"}]
    )
    assert [p.message for p in read(path).dropped] == [
        "'text' must be a string, not null.",
        "the role 'bot' is unknown.",
    ]
    path = write_jsonl("train.jsonl", [*good, {"message_id": "x"}])
    assert problem(path).message == (
        f"{path}, line 3: the row has no 'parent_id', 'role', 'text'; its keys are 'message_id'."
    )


def test_a_deep_tree(write_jsonl: Write) -> None:
    roles = ("prompter", "assistant")
    chain = [message(f"m{n}", f"m{n - 1}" if n else None, roles[n % 2]) for n in range(3000)]
    assert len(read(write_jsonl("train.jsonl", chain)).train[0].messages) == 3000


def test_asked_format_wins_over_what_rows_look_like(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [{**ALPACA, "text": "Hi", "messages": []}])
    assert read(path, format="alpaca").found == "alpaca, 1 row → messages"
    assert read(path, format="text").train[0].text == "Hi"
    path = write_jsonl("train.jsonl", [ALPACA, {"text": "Hi"}])
    assert problem(path, format="alpaca").message == (
        f"{path}, line 2: the row has no 'instruction', 'output'; its keys are 'text'."
    )


BAD_TURNS = [
    ("u:Hi a:", "turn 2, the assistant's, is empty."),
    ("u: a:Yes?", "turn 1, the user's, is empty."),
    ("u:Hi u:Hm a:Yes?", "turns 1 and 2 are both the user's."),
    ("u:Hi a:Yes? a:No?", "turns 2 and 3 are both the assistant's."),
    ("u:Hi s:Short. a:Yes?", "the system turn is number 2, not the first."),
]


@pytest.mark.parametrize(("said", "why"), BAD_TURNS)
def test_turns_that_cannot_be_used_are_left_out_and_counted(
    write_jsonl: Write, said: str, why: str
) -> None:
    roles = {"u": "user", "a": "assistant", "s": "system"}
    messages = [{"role": roles[part[0]], "content": part[2:]} for part in said.split()]
    good = {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    }
    rows = read(write_jsonl("train.jsonl", [good, {"messages": messages}, good]))
    assert [row.line for row in rows.train] == [1, 3]
    (warning,) = rows.warnings
    assert warning.startswith(f"1 of 3 rows of train was left out: line 2: {why}")


def test_an_assistant_may_call_a_tool_and_then_speak(write_jsonl: Write) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    said = [{"role": "user", "content": "Hi"}, call, {"role": "assistant", "content": "Yes?"}]
    assert len(read(write_jsonl("train.jsonl", [{"messages": said}])).train[0].messages) == 3


def test_empty_system_turns_are_passed_over(write_jsonl: Write) -> None:
    spoken = [{"from": "system", "value": " "}, *SAID]
    assert turns(read(write_jsonl("train.jsonl", [{"conversations": spoken}]))) == [
        "u:Hi",
        "a:Yes?",
    ]


def test_a_column_of_the_wrong_type(write_jsonl: Write) -> None:
    rows = read(write_jsonl("train.jsonl", [{**ALPACA, "output": 42}, ALPACA, ALPACA]))
    assert [row.line for row in rows.train] == [2, 3]
    assert "line 1: 'output' must be a string, not a number." in rows.warnings[0]
    path = write_jsonl("train.jsonl", [{**ALPACA, "output": 42}] * 3)
    assert problem(path).message == (
        f"{path}, line 1: 'output' must be a string, not a number. "
        "2 more lines have problems (lines 2, 3)."
    )


SHAREGPT_TROUBLE = [
    ("a", "'conversations' must be a list, not a string."),
    (["a"], "'conversations' 1 must be an object, not a string."),
    ([{"from": None, "value": "a"}], "the 'from' of 'conversations' 1 must be a string, not null."),
    ([{"from": "dog", "value": "a"}], "the speaker 'dog' of 'conversations' 1 is unknown."),
    (
        [{"from": "human", "value": 1}],
        "the 'value' of 'conversations' 1 must be a string, not a number.",
    ),
]


@pytest.mark.parametrize(("value", "why"), SHAREGPT_TROUBLE)
def test_sharegpt_values_of_the_wrong_type(write_jsonl: Write, value: object, why: str) -> None:
    path = write_jsonl("train.jsonl", [{"conversations": value}])
    assert problem(path).message == f"{path}, line 1: {why}"


def test_most_rows_unusable_stops(write_jsonl: Write) -> None:
    bad = {**ALPACA, "output": " "}
    path = write_jsonl("train.jsonl", [ALPACA, bad, bad])
    assert problem(path).message == (
        f"{path}, line 2: turn 2, the assistant's, is empty. 1 more line has problems (line 3)."
    )


def test_mixed_formats_stop_and_are_named(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [ALPACA, {"conversations": SAID}, ALPACA])
    assert problem(path).message == (
        f"{path}, line 2: the row is sharegpt, but line 1 is alpaca. "
        "The file mixes formats: alpaca from line 1, sharegpt from line 2."
    )


def test_rows_keep_tools(write_jsonl: Write) -> None:
    path = write_jsonl("train.jsonl", [{"conversations": SAID, "tools": [{"name": "clock"}]}])
    assert read(path).train[0].tools == ({"name": "clock"},)
    assert json.dumps(read(path).train[0].messages[0]) == '{"role": "user", "content": "Hi"}'
