"""A model's folder is checked before anything is loaded, and what is wrong is said in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from engine.config import validate
from engine.errors import ModelError
from engine.model_files import check_model, find_model, is_local, read_model_folder
from engine.model_shape import find_shape
from tests.tiny import LAYERS, make_tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model's folder of the config's values and other files."""

    def make(config: dict[str, Any] | str, *names: str) -> Path:
        path = tmp_path / "model"
        path.mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        (path / "config.json").write_text(text, encoding="utf-8")
        for name in names:
            (path / name).touch()
        return path

    return make


@pytest.mark.parametrize(
    ("model", "local"),
    [
        ("Qwen/Qwen3-0.6b", False),
        ("owner/name", False),
        ("./owner/name", True),
        ("/models/qwen", True),
        ("~/qwen", True),
        ("qwen", True),
        ("a/b/c", True),
        ("here/model", True),
    ],
)
def test_a_name_means_a_folder_or_the_hub(
    model: str, local: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert is_local(model) is local


def test_a_model(tmp_path: Path) -> None:
    files = read_model_folder(make_tiny_model(tmp_path / "model"))
    assert files.path == tmp_path / "model"
    assert (files.num_layers, files.max_positions) == (LAYERS, 512)


@pytest.mark.parametrize(
    ("config", "layers", "positions"),
    [
        ({"n_layer": 12, "n_positions": 1024}, 12, 1024),
        ({"n_layers": 6}, 6, None),
        ({"text_config": {"num_hidden_layers": 3, "max_position_embeddings": 64}}, 3, 64),
        ({"num_hidden_layers": "many", "text_config": None}, None, None),
        ({"num_hidden_layers": 0}, None, None),
    ],
)
def test_numbers_under_other_names(
    folder: Callable[..., Path], config: dict[str, Any], layers: int, positions: int
) -> None:
    files = read_model_folder(folder({"model_type": "any"} | config, "model-00001.safetensors"))
    assert (files.num_layers, files.max_positions) == (layers, positions)


@pytest.mark.parametrize(
    ("config", "names", "words"),
    [
        ("{", ["model.safetensors"], "cannot be read"),
        ("[]", ["model.safetensors"], "names no model_type"),
        ("{}", ["model.safetensors"], "names no model_type"),
        ({"model_type": "qwen2"}, [], "has no weights"),
        ({"model_type": "qwen2"}, ["adapters.safetensors", "pytorch_model.bin"], "has no weights"),
    ],
)
def test_a_folder_that_is_no_model(
    folder: Callable[..., Path], config: Any, names: list[str], words: str
) -> None:
    path = folder(config, *names)
    with pytest.raises(ModelError, match=words) as error:
        read_model_folder(path)
    assert str(path) in error.value.message


def test_places_that_hold_no_model(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "qwen-tiny")
    (tmp_path / "empty").mkdir()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "file").touch()
    for name, words in {
        "qwen-tny": "no model folder .* Did you mean 'qwen-tiny'?",
        "deep/down": "no model folder",
        "file": "is a file",
        "empty": "has no config.json",
        "adapter": "holds an adapter, not a model",
    }.items():
        with pytest.raises(ModelError, match=words):
            read_model_folder(tmp_path / name)


def test_settings_must_suit_the_model(tmp_path: Path) -> None:
    path = make_tiny_model(tmp_path / "model")
    for layers in (-1, 0, LAYERS):
        check_model(validate({"model": str(path), "num_layers": layers}))
    with pytest.raises(ModelError, match=f"num_layers: 3, but .* has {LAYERS} layers"):
        check_model(validate({"model": str(path), "num_layers": LAYERS + 1}))


def test_a_name_on_the_hub_is_not_looked_up_beforehand() -> None:
    check_model(validate({"model": "owner/name", "num_layers": 1000}))


def test_a_name_on_the_hub_without_a_network(tmp_path: Path) -> None:
    """The tests are offline; see tests/conftest.py."""
    with pytest.raises(ModelError, match="owner/name is not on this machine") as error:
        find_model(validate({"model": "owner/name"}))
    assert "--model" in error.value.hint
    assert not list(tmp_path.iterdir())


def test_a_model_with_files_missing(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002.safetensors: 1 of 2 weight"):
        read_model_folder(model)
    (model / "model-00002-of-00002.safetensors").touch()
    assert read_model_folder(model).path == model
    (model / "model.safetensors.index.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match=r"index.json cannot be read"):
        read_model_folder(model)


def test_half_a_file_of_weights_is_not_planned(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=r"is no whole safetensors file: [\d,]+ of [\d,]+ bytes"):
        find_shape(str(model))
