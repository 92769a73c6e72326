"""Finding the assistant's tokens where templates treat the past differently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper

from engine.data.encode import encode
from engine.data.turns import Renderer
from tests.data_pipeline.conftest import CHATML, FORGETFUL, THINKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.data.formats import Row

    MakeTokenizer = Callable[[str | None], Any]


def turns_of(tokenizer: Any, row: Row) -> list[str]:
    """The located turns, decoded; all must be there."""
    wrapped: Any = TokenizerWrapper(tokenizer)
    renderer = Renderer(wrapped)
    full = renderer.render(row)
    turns = renderer.assistant_turns(row, full)
    assert turns.complete
    return [tokenizer.decode(full[start:stop]) for start, stop in turns.spans]


@pytest.mark.parametrize(
    "turns",
    [
        ["u:Hi", "a:Paris."],
        ["s:Be brief", "u:Hi", "a:Paris.", "u:And?", "a:Madrid.", "u:More", "a:Quartz J"],
        ["u:Hi", "a:Zebra X", "u:Bye"],
        ["a:Madrid. Or not.", "u:Hi", "a:Zebra X"],
        ["u:Hi", "a:One", "a:Two"],
        ["u:Paris.", "a:Paris.", "u:Paris.", "a:Paris."],
        ["u:Hi", "a:\n\n Paris.\n", "u:And?", "a: \n"],
    ],
)
def test_prefix_stable_template(tokenizer: Any, chat: Callable[..., Row], turns: list[str]) -> None:
    said = [turn[2:] for turn in turns if turn.startswith("a:")]
    assert turns_of(tokenizer, chat(*turns)) == [f"{what}<|im_end|>\n" for what in said]


def test_turn_that_lost_its_thinking(
    tokenizer_with: MakeTokenizer, chat: Callable[..., Row]
) -> None:
    tokenizer = tokenizer_with(THINKING)
    row = chat("u:Hi", "a:<think>Hm</think>Paris.", "u:And?", "a:Quartz", "u:More", "a:Madrid.")
    assert turns_of(tokenizer, row) == [
        "Paris.<|im_end|>\n",
        "Quartz<|im_end|>\n",
        "<think></think>Madrid.<|im_end|>\n",
    ]


def test_conversation_that_ends_with_the_user(
    tokenizer_with: MakeTokenizer, chat: Callable[..., Row]
) -> None:
    row = chat("u:Hi", "a:Paris.", "u:Thanks")
    assert turns_of(tokenizer_with(THINKING), row) == ["Paris.<|im_end|>\n"]


def test_generation_prompt_that_opens_thinking(
    tokenizer_with: MakeTokenizer, chat: Callable[..., Row]
) -> None:
    eager = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>{% endif %}")
    row = chat("u:Hi", "a:Paris.", "u:And?", "a:Madrid.")
    assert turns_of(tokenizer_with(eager), row) == ["Paris.<|im_end|>\n", "Madrid.<|im_end|>\n"]


def test_only_the_last_turn_where_the_others_are_not_shown(
    tokenizer_with: MakeTokenizer, chat: Callable[..., Row]
) -> None:
    tokenizer = tokenizer_with(FORGETFUL)
    split = encode([chat("u:Hi", "a:Paris.", "u:And?", "a:Madrid.")], tokenizer, True, 2048)
    assert tokenizer.decode(split.tokens[split.trained]) == "Madrid.<|im_end|>\n"
    assert split.statistics.last_turn_only == 1
    assert split.statistics.warnings("train") == (
        "1 row of train trained on the last assistant turn only: "
        "the chat template does not show where the earlier ones are.",
    )


def test_template_that_refuses_parts_of_a_conversation(
    tokenizer_with: MakeTokenizer, chat: Callable[..., Row]
) -> None:
    whole_only = (
        "{% if messages|length < 4 %}{{ raise_exception('too short') }}{% endif %}" + CHATML
    )
    split = encode(
        [
            chat("u:Hi", "a:Paris.", "u:And?", "a:Madrid."),
            chat("u:Hi", "a:Paris.", "u:And?", "a:Madrid.", "u:More", "a:Oslo."),
        ],
        tokenizer_with(whole_only),
        True,
        2048,
    )
    # Neither has a partial rendering for its first turn; only the second has one for its last.
    assert split.lines.tolist() == [7]
    assert (split.statistics.dropped, split.statistics.last_turn_only) == (1, 1)
