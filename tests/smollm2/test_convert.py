"""The conversion gives the model that the package's authors meant."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import pytest
from mlx_lm import generate, load
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.smollm2 import convert

if TYPE_CHECKING:
    from pathlib import Path

_FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}

_TEXTS = (
    "Hello, world!",
    "  two  spaces,\ttab\nnewline \n\n end ",
    "It's 1234567890 o'clock; pi is 3.14159.",
    "naïve café, Zürich, Ελλάδα, 日本語, 한국어, עברית",
    "emoji 👩‍👩‍👧‍👦 🦙🏳️‍🌈 and a zero\u200bwidth",
    "def f(x):\n    return x ** 2  # code",
)


@pytest.fixture(scope="module")
def tokenizer(smollm2: Path) -> Tokenizer:
    """Load the tokenizer's file without transformers on top."""
    return Tokenizer.from_file(str(smollm2 / "tokenizer.json"))


def test_folder_holds_what_hugging_face_expects(smollm2: Path) -> None:
    assert {path.name for path in smollm2.iterdir()} == _FILES
    config = json.loads((smollm2 / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (config["num_hidden_layers"], config["hidden_size"]) == (30, 576)
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (9, 3)
    assert config["rms_norm_eps"] == 1e-5
    assert config["rope_theta"] == 100_000


def test_weights_are_float16_and_complete(smollm2: Path) -> None:
    weights: Any = mx.load(str(smollm2 / "model.safetensors"))
    assert {weight.dtype for weight in weights.values()} == {mx.float16}
    assert sum(weight.size for weight in weights.values()) == 134_515_008
    assert len(weights) == 30 * 9 + 2
    assert "lm_head.weight" not in weights


@pytest.mark.parametrize("text", _TEXTS)
def test_tokenizer_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


def test_tokenizer_splits_every_digit(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("in 2024").tokens == ["in", "Ġ", "2", "0", "2", "4"]


def test_tokenizer_merges_words(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("The capital of France").tokens == ["The", "Ġcapital", "Ġof", "ĠFrance"]


def test_special_tokens_stay_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>user\nHi<|im_end|><|endoftext|>").ids
    assert ids[0] == 1
    assert ids[-2:] == [2, 0]
    assert tokenizer.decode(ids) == "user\nHi"


def test_transformers_encodes_the_chat_template(smollm2: Path, tokenizer: Tokenizer) -> None:
    wrapped: Any = AutoTokenizer.from_pretrained(smollm2)
    messages = [{"role": "system", "content": "Count."}, {"role": "user", "content": "to 123"}]
    text = (
        "<|im_start|>system\nCount.<|im_end|>\n<|im_start|>user\nto 123<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    rendered = wrapped.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == text
    assert wrapped.encode(text) == tokenizer.encode(text).ids
    assert (wrapped.bos_token_id, wrapped.eos_token_id, wrapped.pad_token_id) == (1, 2, 2)


def test_greedy_answer(smollm2: Path) -> None:
    # On the CPU, compiling calls the system's C++ compiler, which takes longer than the answer.
    mx.disable_compile()
    model, wrapped = load(str(smollm2))[:2]
    prompt = wrapped.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True
    )
    answer = generate(model, wrapped, prompt, max_tokens=16)
    assert answer == "The capital of France is Paris."


def test_unpermute_pairs_halves_again() -> None:
    # Two heads of four rows; GGUF interleaves each head's halves: 0 2 1 3.
    rows = mx.array([0, 2, 1, 3, 4, 6, 5, 7])[:, None]
    assert convert.unpermute(rows, heads=2)[:, 0].tolist() == list(range(8))


def test_a_failed_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(mx, "save_safetensors", fail)
    with pytest.raises(OSError, match="disk full"):
        convert.convert(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_slower_of_two_conversions_keeps_the_other_ones_folder(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    convert.publish(tmp_path / "second", tmp_path / "first")
    assert (tmp_path / "first" / "config.json").read_text() == "first"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match="no-such-package is not installed"):
        convert.find_gguf()
