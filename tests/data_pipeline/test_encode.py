"""Rows as tokens and targets."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.tuner.datasets import ChatDataset, CompletionsDataset, TextDataset
from tokenizers import Tokenizer

from engine.data.encode import EncodeStatistics, encode, encoding
from engine.data.formats import Row
from engine.errors import DataError
from tests.data_pipeline.conftest import CHATML, FORGETFUL, THINKING

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


@pytest.mark.parametrize("mask_prompt", [False, True])
def test_rows_longer_than_the_model_are_counted_and_no_library_warns(
    tokenizer: Any, caplog: pytest.LogCaptureFixture, *, mask_prompt: bool
) -> None:
    library = logging.getLogger("transformers")
    library.addHandler(caplog.handler)
    try:
        tokenizer.model_max_length = 4
        tokenizer.encode("more tokens than four")
        assert "longer than the specified maximum" in caplog.text
        caplog.clear()
        wrapped: Any = TokenizerWrapper(copy.deepcopy(tokenizer))
        wrapped.deprecation_warnings.clear()
        rows = [Row("chat", PATH, line, MESSAGES) for line in (1, 2)]
        if not mask_prompt:
            rows.append(text("A text of more than four tokens.", 3))
        split = encode(rows, wrapped, mask_prompt, 2048)
    finally:
        library.removeHandler(caplog.handler)
    assert len(split) == len(rows)
    assert caplog.text == ""


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


class OneByOne:
    """A tokenizer that shows nothing that could encode many rows at once."""

    def __init__(self, tokenizer: Any) -> None:
        self.eos_token_id = tokenizer.eos_token_id
        self.chat_template = tokenizer.chat_template
        self.encode = tokenizer.encode
        self.apply_chat_template = tokenizer.apply_chat_template


def many_rows(count: int) -> list[Row]:
    """Conversations of several turns, and texts between them."""
    rows: list[Row] = []
    for line in range(1, count + 1):
        if line % 7 == 0:
            rows.append(text(f"Row {line}.", line))
        else:
            more = (
                {"role": "user", "content": f"{line}?"},
                {"role": "assistant", "content": "\n\n x"},
            )
            rows.append(Row("chat", PATH, line, (*MESSAGES, *more * (line % 3))))
    return rows


@pytest.mark.parametrize("template", [CHATML, THINKING, FORGETFUL])
@pytest.mark.parametrize("mask_prompt", [False, True])
def test_many_at_once_are_the_same_as_one_by_one(
    tokenizer_with: Callable[[str | None], Any], template: str, mask_prompt: bool
) -> None:
    tokenizer = tokenizer_with(template)
    rows = [row for row in many_rows(40) if row.messages or not mask_prompt]
    alone: Any = OneByOne(tokenizer)
    at_once = encode(rows, tokenizer, mask_prompt, 2048)
    assert at_once.fingerprint() == encode(rows, alone, mask_prompt, 2048).fingerprint()
    assert at_once.lines.tolist() == [row.line for row in rows]


def test_rows_are_encoded_together(tokenizer: Any) -> None:
    """One by one only the first of each kind, to see that together comes to the same."""
    counting: Any = OneByOne(tokenizer)
    counting.backend_tokenizer = tokenizer.backend_tokenizer
    alone: list[object] = []

    def apply(messages: Any, *, tokenize: bool, **options: Any) -> Any:
        alone.extend([messages] if tokenize else [])
        return tokenizer.apply_chat_template(messages, tokenize=tokenize, **options)

    def encode_text(content: str) -> list[int]:
        alone.append(content)
        return tokenizer.encode(content)

    counting.apply_chat_template, counting.encode = apply, encode_text
    encode(many_rows(40), counting, False, 2048)
    assert len(alone) == 2


def test_a_tokenizer_with_code_of_its_own_is_asked_row_by_row(tokenizer: Any) -> None:
    """The Rust part alone would encode these differently."""
    own: Any = OneByOne(tokenizer)
    own.backend_tokenizer = tokenizer.backend_tokenizer
    own.encode = lambda content: tokenizer.encode(content.upper())
    split = encode([text("Paris."), text("Madrid.")], own, False, 2048)
    assert tokenizer.decode(split.tokens) == "PARIS.<|endoftext|>MADRID.<|endoftext|>"


def test_a_length_that_the_tokenizers_file_cuts_to_is_not_obeyed(
    byte_pairs: Any, tokenizer_with: Callable[[str | None], Any]
) -> None:
    whole = encode([text("Paris. " * 9)], tokenizer_with(None), False, 2048)
    byte_pairs.enable_truncation(4)
    try:
        cutting = tokenizer_with(None)
    finally:
        byte_pairs.no_truncation()
    assert cutting.backend_tokenizer.truncation
    only_its_backend: Any = OneByOne(tokenizer_with(None))
    only_its_backend.backend_tokenizer = Tokenizer.from_str(cutting.backend_tokenizer.to_str())
    for tokenizer in (cutting, only_its_backend):
        split = encode([text("Hi"), text("Paris. " * 9)], tokenizer, False, 2048)
        assert split.tokens[split.offsets[1] :].tolist() == whole.tokens.tolist()


def test_says_how_far_it_is(tokenizer: Any) -> None:
    rows = [text("Paris.", line) for line in range(1, 1101)]
    assert list(encoding(rows, tokenizer, False, 2048)) == [512, 1024, 1100]


NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHATML
)


def test_system_turns_that_the_template_refuses_go_into_the_users_first(
    tokenizer_with: Callable[[str | None], Any],
) -> None:
    tokenizer = tokenizer_with(NO_SYSTEM)
    plain = Row("chat", PATH, 2, MESSAGES[1:])
    split = encode([Row("chat", PATH, 1, MESSAGES), plain], tokenizer, True, 2048)
    assert tokenizer.decode(split.tokens[: split.offsets[1]]) == (
        "<|im_start|>user\nShort answers.\n\nCapital of France?<|im_end|>\n"
        "<|im_start|>assistant\nParis.<|im_end|>\n"
    )
    assert trained_text(tokenizer, split) == "Paris.<|im_end|>\n"
    assert split.statistics.folded == 1
    assert split.statistics.warnings("train") == (
        "1 row of train without a system turn: the model's chat template refuses those, "
        "so the text was put before the user's first turn.",
    )


def test_rows_that_the_template_refuses_are_left_out_and_counted(
    tokenizer_with: Callable[[str | None], Any],
) -> None:
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Roles must alternate') }}{% endif %}{% endfor %}" + CHATML
    )
    good = [Row("chat", PATH, line, MESSAGES[1:]) for line in (1, 3)]
    rows = [good[0], Row("chat", PATH, 2, (MESSAGES[2], *MESSAGES[1:])), good[1]]
    split = encode(rows, tokenizer_with(strict), True, 2048)
    assert (split.lines.tolist(), split.statistics.refused) == ([1, 3], 1)
    assert split.warnings("train") == (
        "1 row of train left out, refused by the model's chat template. "
        "The first is line 2: Roles must alternate",
    )
