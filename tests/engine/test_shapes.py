"""A model's shape, told from tensors' names, is what mlx-lm then really builds: to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models import llama, qwen2, qwen3

from engine import estimate, loaded
from engine.checkpoint import Snapshot, write
from engine.config import validate
from engine.errors import ConfigError, ModelError
from engine.known_models import known_config, quantized_name, tensors_of_config
from engine.model import attach
from engine.model_shape import find_shape, read_header
from engine.optimizer import Updater
from engine.shapes import shape_of
from engine.snapshot import tensors_of
from engine.trained import adapter_file_bytes, optimizer_bytes, trained_tensors
from engine.trees import flatten, trainable
from tests.architectures.tiny import arguments, build

if TYPE_CHECKING:
    from pathlib import Path

ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma2", "phi3", "starcoder2", "mixtral", "olmoe")
KINDS: dict[str, dict[str, Any]] = {
    "LoRA on everything": {"num_layers": -1},
    "LoRA on two layers": {"num_layers": 2, "lora_parameters": {"rank": 3, "scale": 1.0}},
    "full": {"fine_tune_type": "full", "num_layers": 3},
}
OPTIMIZERS = ("adamw", "sgd", "muon", "adafactor")
FAMILIES: dict[str, Any] = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3}
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "rope_theta": 1e4,
    "head_dim": 16,
    "torch_dtype": "float32",
}


def settings(**values: Any) -> Any:
    given: dict[str, Any] = {"lora_parameters": {"rank": 2, "scale": 1.0}, "optimizer": "adamw"}
    return validate(given | values)


def assert_exact(model: Any, config: dict[str, Any], run: Any, folder: Path) -> None:
    """Attach, count everything, and compare with what the shape says."""
    shape = loaded.model_shape(model, config)
    planned = estimate.stored(shape, run)
    tensors = trained_tensors(shape, run)
    model.freeze()
    attach(model, run)
    arrays = trainable(model)
    updater = Updater(model, run)
    assert {t.name: (t.shape, t.nbytes) for t in tensors} == {
        name: (tuple(array.shape), array.nbytes) for name, array in arrays.items()
    }
    assert optimizer_bytes(tensors, run) == updater.state_bytes
    assert planned == loaded.stored(model, updater.state_bytes, run)
    everything = sum(a.nbytes for a in flatten(model.parameters()).values())
    assert planned.base + planned.adapters == everything
    assert loaded.model_shape(model, config) == shape
    path = write(folder, Snapshot(7, tensors_of(arrays), {}))
    assert path.stat().st_size == adapter_file_bytes(tensors, 7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_is_stored_is_exact(name: str, kind: str, tmp_path: Path) -> None:
    assert_exact(build(name), arguments(name), settings(**KINDS[kind]), tmp_path)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimiser_is_exact(optimizer: str, tmp_path: Path) -> None:
    run = settings(optimizer=optimizer, num_layers=-1, fine_tune_type="full")
    assert_exact(build("qwen2"), arguments("qwen2"), run, tmp_path)


def test_adafactor_with_a_first_moment_is_exact(tmp_path: Path) -> None:
    own = {"adafactor": {"beta_1": 0.9}}
    run = settings(optimizer="adafactor", optimizer_config=own, num_layers=-1)
    assert_exact(build("qwen2"), arguments("qwen2"), run, tmp_path)


def test_dora_and_named_modules_are_exact(tmp_path: Path) -> None:
    keys = ["self_attn.q_proj", "mlp.down_proj", "lm_head"]
    for kind in ("lora", "dora"):
        lora = {"rank": 4, "scale": 1.0, "keys": keys}
        run = settings(fine_tune_type=kind, num_layers=1, lora_parameters=lora)
        (folder := tmp_path / kind).mkdir()
        assert_exact(build("llama"), arguments("llama"), run, folder)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [32, 64])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_quantised_models_are_exact(bits: int, group_size: int, kind: str, tmp_path: Path) -> None:
    config = SIZES | {"model_type": "qwen2", "tie_word_embeddings": False, "intermediate_size": 128}
    model = qwen2.Model(qwen2.ModelArgs.from_dict(config))
    nn.quantize(model, group_size=group_size, bits=bits)
    mx.eval(model.parameters())
    config = config | {"quantization": {"group_size": group_size, "bits": bits}}
    implied = tensors_of_config(config)
    assert implied is not None
    assert shape_of(implied, config) == loaded.model_shape(model, config)
    assert_exact(model, config, settings(fine_tune_type=kind, num_layers=-1), tmp_path)


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_config_alone_tells_the_shape(name: str, is_tied: bool) -> None:
    config = SIZES | {"model_type": name, "tie_word_embeddings": is_tied}
    if name == "llama":
        config |= {"attention_bias": True, "mlp_bias": True}
    module = FAMILIES[name]
    model = module.Model(module.ModelArgs.from_dict(config))
    implied = tensors_of_config(config)
    assert implied is not None
    told, built = shape_of(implied, config), loaded.model_shape(model, config)
    assert {(t.name, t.shape) for layer in told.layers for t in layer.tensors} == {
        (t.name, t.shape) for layer in built.layers for t in layer.tensors
    }
    assert (told.base_bytes, told.parameters) == (built.base_bytes, built.parameters)
    assert set(told.outside) == set(built.outside)


def test_quantised_weights_are_not_trained_whole() -> None:
    shape = find_shape("mlx-community/Qwen2.5-0.5B-Instruct-4bit")
    with pytest.raises(ConfigError, match="full cannot train quantised weights"):
        trained_tensors(shape, settings(fine_tune_type="full"))


def test_a_header_tells_the_shape_without_the_weights(tmp_path: Path) -> None:
    config = SIZES | {"model_type": "olmoe"}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = build("llama")
    weights = {
        name: array.astype(mx.bfloat16) for name, array in flatten(model.parameters()).items()
    }
    mx.save_safetensors(str(tmp_path / "model.safetensors"), weights)
    shape = find_shape(str(tmp_path))
    assert shape.base_bytes == sum(array.nbytes for array in weights.values())
    assert shape.parameters == sum(array.size for array in weights.values())
    assert (shape.itemsize, len(shape.layers)) == (2, 4)
    assert find_shape(str(tmp_path), "F32").base_bytes == 2 * shape.base_bytes


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for content in (b"", b"\xff" * 8, (5).to_bytes(8, "little") + b"[1,2"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.safetensors is no whole safetensors file"):
            read_header(path)


PARAMETERS = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "meta-llama/Llama-3.2-1B-Instruct": 1_235_814_400,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
}
"""As their model cards count them."""


@pytest.mark.parametrize("name", PARAMETERS)
def test_known_models_have_the_parameters_that_they_are_known_for(name: str) -> None:
    shape = find_shape(name)
    assert (shape.parameters, shape.base_bytes) == (PARAMETERS[name], 2 * PARAMETERS[name])
    quantized = quantized_name(name)
    assert quantized is not None
    small = find_shape(quantized)
    assert small.parameters == shape.parameters
    # Four bits a weight, and two numbers of 16 bits for 64 of them.
    assert small.base_bytes == pytest.approx(shape.parameters * (4 + 32 / 64) / 8, rel=0.002)


def test_the_maximum_configuration_trains_36_9_million() -> None:
    shape = find_shape("Qwen/Qwen2.5-1.5B-Instruct")
    run = settings(num_layers=-1, lora_parameters={"rank": 32, "scale": 2.0})
    assert sum(t.size for t in trained_tensors(shape, run)) == 36_929_536


def test_unknown_models_are_refused_with_a_way_out() -> None:
    assert known_config("nobody/nothing") is None
    with pytest.raises(ModelError, match="nobody/nothing is not on this machine") as caught:
        find_shape("nobody/nothing")
    assert "config.json" in caught.value.hint


def test_adapters_that_do_not_suit_the_model_are_refused_as_when_it_is_loaded() -> None:
    shape = find_shape("HuggingFaceTB/SmolLM2-135M-Instruct")
    with pytest.raises(ConfigError, match=r"no module is called \['nothing'\]"):
        trained_tensors(
            shape, settings(lora_parameters={"rank": 2, "scale": 1.0, "keys": ["nothing"]})
        )
    with pytest.raises(ConfigError, match=r"rank: 512 is larger than .*whose smaller side is 192"):
        trained_tensors(shape, settings(lora_parameters={"rank": 512, "scale": 1.0}))
