"""Rows as tokens and targets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner.datasets import ChatDataset, CompletionsDataset, TextDataset

from engine.data.encode import EncodeStatistics, encode
from engine.data.formats import Row
from engine.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = Path("data/train.jsonl")
MESSAGES = (
    {"role": "system", "content": "Short answers."},
    {"role": "user", "content": "Capital of France?"},
    {"role": "assistant", "content": "Paris."},
)


def text(content: str, line: int = 1) -> Row:
    """A text row."""
    return Row("text", PATH, line, text=content)


def trained_text(tokenizer: Any, split: Any, row: int = 0) -> str:
    """The targets of a row, decoded."""
    part = slice(split.offsets[row], split.offsets[row + 1])
    return tokenizer.decode(split.tokens[part][split.trained[part]])


def test_tokens_are_those_of_mlx_lm(tokenizer: Any) -> None:
    wrapped: Any = TokenizerWrapper(tokenizer)
    pair = {"prompt": "Capital of France?", "completion": "Paris."}
    sources: list[tuple[Row, Any, dict[str, Any]]] = [
        (
            Row("chat", PATH, 1, MESSAGES),
            ChatDataset([], wrapped),
            {"messages": list(MESSAGES)},
        ),
        (
            Row("prompt/completion", PATH, 1, MESSAGES[1:]),
            CompletionsDataset([], wrapped, "prompt", "completion", mask_prompt=False),
            pair,
        ),
        (text("And of Spain?"), TextDataset([], wrapped), {"text": "And of Spain?"}),
    ]
    for row, theirs, given in sources:
        assert encode([row], wrapped, False, 2048).tokens.tolist() == theirs.process(given)[0]


def test_masked_targets_of_a_single_turn_are_those_of_mlx_lm(tokenizer: Any) -> None:
    wrapped: Any = TokenizerWrapper(tokenizer)
    theirs: Any = ChatDataset([], wrapped, mask_prompt=True)
    split = encode([Row("chat", PATH, 1, MESSAGES)], wrapped, True, 2048)
    tokens, offset = theirs.process({"messages": list(MESSAGES)})
    assert np.flatnonzero(split.trained).tolist() == list(range(offset, len(tokens)))


def test_without_mask_every_token_after_the_first_is_a_target(tokenizer: Any) -> None:
    rows = [text("Paris."), text("The capital of Spain is Madrid.")]
    split = encode(rows, tokenizer, False, 2048)
    assert np.flatnonzero(~split.trained).tolist() == split.offsets[:-1].tolist()
    assert split.trained_counts.tolist() == (split.lengths - 1).tolist()
    assert (split.tokens.dtype, split.trained.dtype) == (np.int32, np.bool_)


def test_end_token_is_not_doubled(tokenizer: Any) -> None:
    once = encode([text("Paris.")], tokenizer, False, 2048)
    twice = encode([text("Paris.<|endoftext|>")], tokenizer, False, 2048)
    assert once.tokens.tolist() == twice.tokens.tolist()


def test_every_assistant_turn_is_trained(tokenizer: Any, chat: Callable[..., Row]) -> None:
    row = chat("s:Short.", "u:France?", "a:Paris.", "u:And of Spain?", "a:Madrid.", "u:Thanks")
    split = encode([row], tokenizer, True, 2048)
    assert trained_text(tokenizer, split) == "Paris.<|im_end|>\nMadrid.<|im_end|>\n"
    assert split.statistics.last_turn_only == 0


def test_rows_are_cut_and_counted(tokenizer: Any) -> None:
    long = "The capital of France is Paris. " * 10
    whole = encode([text(long), text("Hi")], tokenizer, False, 2048)
    cut = encode([text(long), text("Hi")], tokenizer, False, 20)
    most = int(whole.lengths[0])
    assert cut.lengths.tolist() == [20, whole.lengths[1]]
    assert cut.tokens[:20].tolist() == whole.tokens[:20].tolist()
    assert cut.statistics == EncodeStatistics(
        rows=2,
        truncated=1,
        lost_tokens=most - 20,
        tokens=len(cut.tokens),
        trained_tokens=len(cut.tokens) - 2,
        longest=most,
        longest_line=1,
        median=int(whole.lengths[1]),
        ninetieth=most,
        histogram=(1, 0, 1, 0, 0, 0, 0, 0, 0, 0),
    )
    assert cut.statistics.warnings("train") == (
        f"1 row of train cut to max_seq_length: {most - 20} tokens lost. "
        f"The longest has {most}; split it or raise max_seq_length.",
    )


def test_rows_without_targets_are_dropped_and_counted(
    tokenizer: Any, chat: Callable[..., Row]
) -> None:
    good = Row("chat", PATH, 9, MESSAGES)
    prompt_fills_it = chat("u:" + "What is the capital of France? " * 20, "a:Paris.")
    split = encode([chat("u:Hi"), good, prompt_fills_it], tokenizer, True, 60)
    assert (len(split), split.lines.tolist()) == (1, [9])
    assert (split.statistics.rows, split.statistics.dropped) == (1, 2)
    assert split.statistics.truncated == 1
    assert split.statistics.warnings("train")[1] == (
        "2 rows of train left out: no token of them would be trained on."
    )


def test_empty_text_is_dropped(tokenizer: Any) -> None:
    split = encode([text(""), text("Paris.")], tokenizer, False, 2048)
    assert (len(split), split.statistics.dropped) == (1, 1)


def test_no_rows_give_an_empty_split(tokenizer: Any) -> None:
    split = encode([], tokenizer, False, 2048)
    assert len(split) == 0
    assert split.lengths.tolist() == split.trained_counts.tolist() == []
    assert split.statistics == EncodeStatistics()
    assert split.statistics.warnings("valid") == ()


def test_fingerprint_tells_tokens_targets_and_borders_apart(tokenizer: Any) -> None:
    chat = Row("chat", PATH, 1, MESSAGES)
    length = len(encode([chat], tokenizer, True, 2048).tokens)
    prints = [
        encode([chat], tokenizer, False, 2048).fingerprint(),
        encode([chat], tokenizer, True, 2048).fingerprint(),
        encode([chat, chat], tokenizer, True, 2048).fingerprint(),
        encode([chat], tokenizer, True, length - 1).fingerprint(),
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == encode([chat], tokenizer, False, 2048).fingerprint()


def problem(row: Row, tokenizer: Any, mask_prompt: bool = False) -> DataError:
    """The error that encoding a row raises."""
    with pytest.raises(DataError) as caught:
        encode([row], tokenizer, mask_prompt, 2048)
    return caught.value


def test_text_has_no_prompt_to_mask(tokenizer: Any) -> None:
    error = problem(text("Paris.", line=3), tokenizer, mask_prompt=True)
    assert error.message == (
        "data/train.jsonl, line 3: text rows have no prompt that could be masked."
    )
    assert error.hint == "Set mask_prompt to false, or use chat or prompt/completion rows."


def test_all_rows_without_targets(tokenizer: Any, chat: Callable[..., Row]) -> None:
    row = chat("u:Hi")
    error = problem(row, tokenizer, mask_prompt=True)
    assert error.message == f"{row.path}: no row has a token to train on with mask_prompt."
    assert error.hint == ("Add assistant turns, or raise max_seq_length if prompts alone fill it.")


@pytest.mark.parametrize("wrapped", [False, True])
def test_tokenizer_without_chat_template(
    tokenizer_with: Callable[[str | None], Any], wrapped: bool
) -> None:
    tokenizer = tokenizer_with(None)
    used = TokenizerWrapper(tokenizer) if wrapped else tokenizer
    error = problem(Row("chat", PATH, 1, MESSAGES), used)
    assert error.message == (
        "data/train.jsonl, line 1: the model's tokenizer has no chat template, "
        "so chat rows cannot be used."
    )
    assert error.hint == (
        "Choose an instruction-tuned model, or bring the rows into the text format."
    )


def test_template_that_refuses_a_row(tokenizer_with: Callable[[str | None], Any]) -> None:
    picky = tokenizer_with("{{ raise_exception('System role not supported') }}")
    error = problem(Row("chat", PATH, 5, MESSAGES), picky)
    assert error.message == (
        "data/train.jsonl, line 5: the model's chat template refuses the row: "
        "System role not supported"
    )
    assert error.hint.startswith("Change or delete the row;")
