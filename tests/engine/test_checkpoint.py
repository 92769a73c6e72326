"""Adapters on disk are mlx-lm's own files, and appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx_lm
import pytest
from mlx_lm.tuner.utils import load_adapters

from engine.checkpoint import (
    Snapshot,
    checkpoint_name,
    clean,
    iterations,
    publish,
    state_name,
    verify,
    write,
    write_adapter_config,
)
from engine.config import RunConfig, validate
from engine.errors import CheckpointError, DiskFullError
from engine.model import load_adapted
from engine.model_files import read_model_folder
from engine.snapshot import tensors_of
from engine.trees import trainable
from tests.engine.stepping import largest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.workshop import Workshop

pytestmark = pytest.mark.usefixtures("uncompiled")


def arrays(number: float) -> dict[str, mx.array]:
    return {"layers.0.lora_a": mx.full((4, 2), number), "layers.0.lora_b": mx.full((2, 4), number)}


def save_adapters(folder: Path, iteration: int, adapters: dict[str, mx.array]) -> Path:
    """Write a checkpoint whose optimiser has counted the iterations."""
    optimizer = {"step": mx.array(iteration, mx.uint64), "empty": mx.zeros((0, 3))}
    return write(folder, Snapshot(iteration, tensors_of(adapters), tensors_of(optimizer)))


def saved(path: Path) -> dict[str, mx.array]:
    found: Any = mx.load(str(path))
    return found


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has its config already."""
    path = tmp_path / "adapters"
    write_adapter_config(path, RunConfig())
    return path


def test_names_are_those_of_mlx_lm(folder: Path) -> None:
    """``mlx_lm.tuner.trainer`` writes ``f"{it:07d}_adapters.safetensors"``."""
    assert checkpoint_name(500) == "0000500_adapters.safetensors"
    assert checkpoint_name(12_345_678) == "12345678_adapters.safetensors"
    path = save_adapters(folder, 500, arrays(1))
    assert path == folder / "0000500_adapters.safetensors"
    assert files(folder) == {
        "adapter_config.json",
        "adapters.safetensors",
        "0000500_adapters.safetensors",
        "0000500_state",
    }
    assert files(folder / "0000500_state") == {"optimizer.safetensors", "state.json"}
    assert iterations(folder) == [500]
    assert verify(folder, 500)["iteration"] == 500


def test_what_is_saved_is_read_back(folder: Path) -> None:
    path = save_adapters(folder, 5, arrays(0.1))
    for file in (path, folder / "adapters.safetensors"):
        loaded: Any = mx.load(str(file), return_metadata=True)
        found, metadata = loaded
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in arrays(0.1).items()
        }
        assert metadata == {"format": "mlx", "iteration": "5"}


def test_the_latest_moves_on_and_earlier_ones_stay(folder: Path) -> None:
    first = save_adapters(folder, 1, arrays(1))
    before = first.read_bytes()
    second = save_adapters(folder, 2, arrays(2))
    assert first.read_bytes() == before
    assert (folder / "adapters.safetensors").read_bytes() == second.read_bytes()
    assert save_adapters(folder, 2, arrays(3)).read_bytes() != before
    assert saved(folder / "adapters.safetensors")["layers.0.lora_a"][0, 0].item() == 3


def test_the_latest_is_a_copy_where_links_are_not_possible(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = save_adapters(folder, 3, arrays(3))
    latest = folder / "adapters.safetensors"
    assert latest.read_bytes() == path.read_bytes()
    assert not latest.samefile(path)


CONFIGS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {
        "num_layers": 1,
        "lora_parameters": {"rank": 2, "scale": 5.0, "keys": ["mlp.up_proj"]},
    },
    "full": {},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_mlx_lm_loads_them(kind: str, tiny: Workshop, tmp_path: Path) -> None:
    config = tiny.config(fine_tune_type=kind, **CONFIGS[kind])
    model = load_adapted(config, read_model_folder(tiny.model)).model
    mx.random.seed(1)
    moved = {
        name: array + mx.random.normal(array.shape) for name, array in trainable(model).items()
    }
    model.load_weights(list(moved.items()), strict=False)
    model.eval()
    write_adapter_config(tmp_path, config)
    save_adapters(tmp_path, 7, trainable(model))
    tokens = mx.array([[5, 6, 7, 8]])
    plain, _ = mlx_lm.load(str(tiny.model))[:2]
    assert largest(plain(tokens) - model(tokens)) > 1e-2
    theirs = load_adapters(plain, str(tmp_path))
    theirs.eval()
    assert mx.array_equal(theirs(tokens), model(tokens)).item()


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_settings_beside_them_are_those_of_the_run(kind: str, tmp_path: Path) -> None:
    config = validate({"fine_tune_type": kind, "model": "süß", "num_layers": -1})
    write_adapter_config(tmp_path / "deep" / "down", config)
    text = (tmp_path / "deep" / "down" / "adapter_config.json").read_text(encoding="utf-8")
    assert validate(json.loads(text)) == config
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_full_fine_tuning_says_as_mlx_lm_does_that_there_are_no_adapters(tmp_path: Path) -> None:
    write_adapter_config(tmp_path, validate({"fine_tune_type": "full"}))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_parameters"] is None


def test_a_checkpoint_that_cannot_be_written_leaves_what_was_there(folder: Path) -> None:
    save_adapters(folder, 1, arrays(1))
    before = contents(folder)
    (folder / checkpoint_name(2)).mkdir()
    with pytest.raises(CheckpointError, match=str(folder)) as error:
        save_adapters(folder, 2, arrays(2))
    assert "what was saved before is intact" in error.value.hint
    (folder / checkpoint_name(2)).rmdir()
    assert contents(folder) == before
    assert iterations(folder) == [1]


def test_a_latest_that_is_copied_half_leaves_the_one_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = folder / "adapters.safetensors"
    before = save_adapters(folder, 1, arrays(1)).read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "no space left on device")

    def copy_half(source: Path, destination: Path) -> None:
        destination.write_bytes(source.read_bytes()[:50])
        refuse()

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "copyfile", copy_half)
    with pytest.raises(DiskFullError, match=r"saving needs 16 MB, .* are free"):
        save_adapters(folder, 2, arrays(2))
    with pytest.raises(DiskFullError):
        publish(folder, folder)
    assert latest.read_bytes() == before
    names = {name(i) for name in (checkpoint_name, state_name) for i in (1, 2)}
    assert files(folder) == {latest.name, "adapter_config.json", *names}


def test_a_latest_that_cannot_be_written_is_an_error(folder: Path) -> None:
    (folder / "adapters.safetensors").mkdir()
    with pytest.raises(CheckpointError):
        save_adapters(folder, 2, arrays(2))
    names = {checkpoint_name(2), state_name(2)}
    assert files(folder) == {"adapter_config.json", "adapters.safetensors", *names}


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file" / "adapters"
    blocked.parent.touch()
    with pytest.raises(CheckpointError):
        write_adapter_config(blocked, RunConfig())
    with pytest.raises(CheckpointError):
        save_adapters(blocked, 1, arrays(1))
    with pytest.raises(CheckpointError):
        save_adapters(tmp_path / "missing", 1, arrays(1))
    assert files(tmp_path) == {"file"}


def test_the_newest_adapters_are_published(folder: Path, tmp_path: Path) -> None:
    destination = tmp_path / "somewhere" / "else"
    save_adapters(folder, 1, arrays(1))
    publish(folder, destination)
    assert files(destination) == {"adapter_config.json", "adapters.safetensors"}
    first = (destination / "adapters.safetensors").read_bytes()
    save_adapters(folder, 2, arrays(2))
    assert (destination / "adapters.safetensors").read_bytes() == first
    publish(folder, destination)
    for name in files(destination):
        assert (destination / name).read_bytes() == (folder / name).read_bytes()
    assert files(destination) == {"adapter_config.json", "adapters.safetensors"}


def test_where_nothing_can_be_published(folder: Path, tmp_path: Path) -> None:
    save_adapters(folder, 1, arrays(1))
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="file"):
        publish(folder, tmp_path / "file" / "adapters")


def test_a_state_that_was_being_replaced_when_the_process_died_is_put_back(folder: Path) -> None:
    save_adapters(folder, 500, arrays(1))
    state = folder / "0000500_state"
    state.rename(folder / ".tmp-77-0000500_state-old")
    (folder / ".tmp-77-0000500_state").mkdir()
    assert iterations(folder) == []
    clean(folder)
    assert verify(folder, 500)["iteration"] == 500
    assert not list(folder.glob(".tmp-*"))
