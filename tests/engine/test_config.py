"""Settings: mlx-lm's own files and defaults, and every problem named at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlx_lm import lora as mlx_lora
from mlx_lm.tuner import datasets as mlx_datasets

from engine.config import (
    RunConfig,
    dump,
    load_config,
    parse_override,
    parse_yaml,
    validate,
)
from engine.errors import ConfigError
from engine.preset_files import preset_names, preset_path, preset_summary

OURS = {
    "train": "training is what this program is for",
    "adapter_path": "a run keeps its adapters in its own folder",
}
"""Settings whose default differs from mlx-lm's, and why."""


@pytest.mark.parametrize("key", mlx_lora.CONFIG_DEFAULTS)
def test_defaults_are_those_of_mlx_lm(key: str) -> None:
    theirs: Any = mlx_lora.CONFIG_DEFAULTS[key]
    ours = RunConfig().model_dump(exclude_none=True).get(key)
    if key in OURS:
        assert ours != theirs
    elif key == "optimizer_config":
        # Settings of an optimiser that are not there are none.
        assert not any(theirs.values())
        assert ours == {}
    else:
        assert (ours, type(ours)) == (theirs, type(theirs))


def test_rows_under_our_names_are_taken_by_mlx_lm() -> None:
    config = RunConfig()
    create: Any = mlx_datasets.create_dataset
    rows: dict[str, dict[str, Any]] = {
        "TextDataset": {config.text_feature: "a"},
        "ChatDataset": {config.chat_feature: [{"role": "user", "content": "a"}]},
        "CompletionsDataset": {config.prompt_feature: "a", config.completion_feature: "b"},
    }
    for kind, row in rows.items():
        assert type(create([row], None, SimpleNamespace())).__name__ == kind


@pytest.mark.parametrize(
    "text",
    [
        *("1e-5", "1E5", "2.0e-4", "1e+3", "-1e-3", ".5", "5.", "+.5e-2", "1_000", "-7", "0x10"),
        *("1e", "e5", "1.2.3", "1e-5x", "[1e-5, 1000, 1e-7]"),
        *("true", "yes", "null", "~", ".inf", "-.INF", ".nan", "12:30", "0o7", "007", "text"),
    ],
)
def test_values_are_read_as_mlx_lm_reads_them(text: str) -> None:
    theirs = yaml.load(f"key: {text}", mlx_lora.yaml_loader)
    ours = parse_yaml(f"key: {text}")
    assert repr(ours) == repr(theirs)


def test_a_rate_without_a_point_is_a_number() -> None:
    assert parse_yaml("learning_rate: 1e-5") == {"learning_rate": 1e-5}
    assert validate(parse_yaml("learning_rate: 1e-5")).learning_rate == 1e-5


MLX_LM_FILE = """
model: "mlx_model"
train: true
fine_tune_type: lora
optimizer: adamw
optimizer_config:
  adamw:
    betas: [0.9, 0.98]
    eps: 1e-6
    weight_decay: 0.05
    bias_correction: true
data: "/path/to/training/data"
seed: 0
num_layers: 16
batch_size: 4
iters: 1000
val_batches: 25
learning_rate: 1e-5
steps_per_report: 10
steps_per_eval: 200
resume_adapter_file: null
adapter_path: "adapters"
save_every: 100
test: false
test_batches: 100
max_seq_length: 2048
grad_checkpoint: false
lora_parameters:
  keys: ["self_attn.q_proj", "self_attn.v_proj"]
  rank: 8
  scale: 20.0
  dropout: 0.0
lr_schedule:
  name: cosine_decay
  warmup: 100 # 0 for no warmup
  warmup_init: 1e-7 # 0 if not specified
  arguments: [1e-5, 1000, 1e-7] # passed to scheduler
"""


def test_a_file_written_for_mlx_lm_is_read_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "lora_config.yaml"
    file.write_text(MLX_LM_FILE, encoding="utf-8")
    config = load_config(str(file))
    given = yaml.load(MLX_LM_FILE, mlx_lora.yaml_loader)
    values = config.model_dump(exclude_none=True)
    assert {key: values.get(key) for key in given} == given


def test_mlx_lm_reads_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "lora_config.yaml"
    file.write_text(MLX_LM_FILE, encoding="utf-8")
    written = dump(load_config(str(file), {"learning_rate": 1e-7, "name": "Día"}))
    theirs = yaml.load(written, mlx_lora.yaml_loader)
    assert theirs["lr_schedule"] == yaml.load(MLX_LM_FILE, mlx_lora.yaml_loader)["lr_schedule"]
    assert (theirs["learning_rate"], theirs["name"]) == (1e-7, "Día")


CHANGED: dict[str, Any] = {
    "model": "/models/süß",
    "fine_tune_type": "dora",
    "optimizer": "muon",
    "optimizer_config": {"muon": {"momentum": 0.9}, "adamw": {"betas": [0.9, 0.95]}},
    "num_layers": -1,
    "learning_rate": 3e-7,
    "lr_schedule": {"name": "step_decay", "arguments": [1e-4, 0.5, 100], "warmup": 3},
    "lora_parameters": {"rank": 2, "scale": 1.5, "dropout": 0.25, "keys": ["q_proj"]},
    "clear_cache_threshold": "2GB",
    "sample_prompts": ["Who? Me: yes", "- no", "1e-5"],
    "memory_budget_bytes": 5_200_000_000,
    "max_grad_norm": 1.0,
    "mask_prompt": True,
    "val_batches": 0,
}


@pytest.mark.parametrize("values", [{}, CHANGED])
def test_what_is_written_is_read_back(values: dict[str, Any], tmp_path: Path) -> None:
    config = validate(values)
    file = tmp_path / "config.yaml"
    file.write_text(dump(config), encoding="utf-8")
    assert load_config(str(file)) == config


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_says_what_it_is_for(name: str) -> None:
    config = load_config(name)
    # Of the largest model, only as many layers as fit the smallest machine.
    assert config.num_layers == (16 if name == "qlora-7b" else -1)
    first, *_ = preset_path(name).read_text(encoding="utf-8").splitlines()
    assert preset_summary(name) == (first.removeprefix("# ") if first.startswith("#") else "")


def test_the_demo_is_found_wherever_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config("demo")
    assert (Path(config.model) / "config.json").is_file()
    assert (Path(config.data) / "train.jsonl").is_file()


def test_a_preset_is_meant_even_if_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load_config("demo").iters == load_config(str(preset_path("demo"))).iters


def problems_of(values: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as error:
        validate(values)
    return error.value.problems


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"itres": 5}, "itres: unknown setting. Did you mean 'iters'?"),
        ({"lerning-rate": 5}, "lerning-rate: unknown setting. Did you mean 'learning_rate'?"),
        ({"zzz": 5}, "zzz: unknown setting."),
        ({"iters": "many"}, "iters: should be a whole number, not 'many'"),
        ({"iters": 2.5}, "iters: should be a whole number, not 2.5"),
        ({"iters": True}, "iters: should not be true or false, but is true"),
        ({"iters": 0}, "iters: should be greater than or equal to 1, not 0"),
        ({"batch_size": -1}, "batch_size: should be greater than or equal to 1, not -1"),
        ({"learning_rate": "fast"}, "learning_rate: should be a number, not 'fast'"),
        ({"learning_rate": float("nan")}, "learning_rate: should be a finite number, not nan"),
        ({"learning_rate": float("inf")}, "learning_rate: should be a finite number, not inf"),
        ({"model": 5}, "model: should be text, not 5"),
        ({"mask_prompt": "perhaps"}, "mask_prompt: should be true or false, not 'perhaps'"),
        ({"sample_prompts": "hi"}, "sample_prompts: should be a list, like [a, b], not 'hi'"),
        (
            {"optimizer": "adamm"},
            "optimizer: 'adamm' is not one of adam, adamw, muon, sgd, adafactor. "
            "Did you mean 'adam'?",
        ),
        (
            {"lora_parameters": 8},
            "lora_parameters: should be settings of its own, like {key: value}, not 8",
        ),
        (
            {"lora_parameters": {"rank": 0, "scale": 1.0}},
            "lora_parameters.rank: should be greater than or equal to 1, not 0",
        ),
        (
            {"lora_parameters": {"dropout": 1.0, "scale": 1.0}},
            "lora_parameters.dropout: should be less than 1, not 1.0",
        ),
        (
            {"lora_parameters": {"rnak": 4, "scale": 1.0}},
            "lora_parameters.rnak: unknown setting. Did you mean 'rank'?",
        ),
        (
            {"lora_parameters": {"rank": 8}},
            "lora_parameters.scale: missing; it is the factor of the low-rank update, e.g. 20.0",
        ),
        ({"lr_schedule": {"name": "cosine_decay"}}, "lr_schedule.arguments: missing"),
        (
            {"lr_schedule": {"name": "cosine", "arguments": [1.0]}},
            "lr_schedule.name: 'cosine' is not one of cosine_decay, exponential_decay, "
            "linear_schedule, step_decay. Did you mean 'cosine_decay'?",
        ),
        (
            {"lr_schedule": {"name": "step_decay", "arguments": ["a"]}},
            "lr_schedule.arguments.0: should be a number, not 'a'",
        ),
    ],
)
def test_one_problem_is_one_sentence(values: dict[str, Any], problem: str) -> None:
    assert problems_of(values) == (problem,)


def test_alpha_is_explained() -> None:
    problems = problems_of({"lora_parameters": {"rank": 8, "alpha": 16}})
    assert [p for p in problems if p.startswith("lora_parameters.scale: missing") and "alpha" in p]
    assert [p for p in problems if p.startswith("lora_parameters.alpha") and "scale = alpha" in p]
    assert len(problems) == 2


def test_all_problems_are_told_at_once_and_where() -> None:
    values = {"iters": 0, "optimizer": "x", "itres": 1, "lora_parameters": {"rank": -1}}
    with pytest.raises(ConfigError) as error:
        validate(values, "my.yaml")
    assert len(error.value.problems) == 5
    lines = str(error.value).splitlines()
    assert lines[0] == "5 problems in my.yaml:"
    assert lines[1:6] == [f"  {problem}" for problem in error.value.problems]
    assert "--set key=value" in lines[6]


def test_a_setting_without_a_value_is_left_out() -> None:
    """mlx-lm takes its default where a file says ``null``."""
    given = dict.fromkeys(mlx_lora.CONFIG_DEFAULTS)
    assert validate(given) == RunConfig()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().iters = 5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iters=5", ("iters", 5)),
        ("learning_rate=1e-5", ("learning_rate", 1e-5)),
        (" name = a=b ", ("name", "a=b")),
        ("lora_parameters.keys=[a, b]", ("lora_parameters.keys", ["a", "b"])),
        ("adapter_path=", ("adapter_path", None)),
        ("sample_prompts=['1: 2']", ("sample_prompts", ["1: 2"])),
    ],
)
def test_overrides(text: str, expected: tuple[str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize(
    ("text", "words"), [("iters", "key=value"), ("=5", "key=value"), ("a=[", "YAML")]
)
def test_overrides_that_are_none(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_override(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("iters: 7\nlora_parameters: {rank: 3, scale: 5.0}\n", encoding="utf-8")
    return path


def test_overrides_win_and_reach_into_sections(file: Path) -> None:
    config = load_config(str(file), {"iters": 9, "lora_parameters.rank": 4, "seed": 2})
    assert (config.iters, config.seed) == (9, 2)
    assert (config.lora_parameters.rank, config.lora_parameters.scale) == (4, 5.0)


def test_an_override_reaches_into_a_section_that_the_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("iters: 7\n", encoding="utf-8")
    changes = {"lora_parameters.rank": 4, "optimizer_config.sgd.momentum": 0.9}
    config = load_config(str(path), changes)
    assert config.lora_parameters.rank == 4
    assert config.lora_parameters.scale == RunConfig().lora_parameters.scale
    assert config.optimizer_config == {"sgd": {"momentum": 0.9}}


def test_an_override_takes_a_value_back(file: Path) -> None:
    assert load_config(str(file), {"iters": None}).iters == RunConfig().iters


def test_a_wrong_override_is_named_by_its_whole_key(file: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(str(file), {"lora_parameters.rnk": 4, "lora_prameters.rank": 4})
    assert set(error.value.problems) == {
        "lora_parameters.rnk: unknown setting. Did you mean 'rank'?",
        "lora_prameters: unknown setting. Did you mean 'lora_parameters'?",
    }


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("dmeo", "there is no preset 'dmeo'. Did you mean 'demo'?"),
        ("zzzzzz", "there is no preset 'zzzzzz'."),
        ("missing.yaml", "missing.yaml does not exist"),
        ("some/where", "some/where does not exist"),
        ("folder", "folder is a folder, not a YAML file"),
    ],
)
def test_a_source_that_is_none(
    source: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError) as error:
        load_config(source)
    assert words in error.value.problems


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"iters: 5\nmodel: [a\n", "line 3 is not valid YAML"),
        (b"iters: 5\n\tmodel: a\n", "line 2 is not valid YAML"),
        (b"iters: 5\nname: \xff\n", "cannot be read"),
        (b"iters: 5\nname: \x07\n", "cannot be read"),
        (b"", "holds no settings"),
        (b"- iters\n", "holds no settings"),
        (b"!!python/object/apply:os.system ['true']\n", "line 1 is not valid YAML"),
    ],
)
def test_a_file_that_is_not_settings(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as error:
        load_config(str(path))
    assert str(path) in str(error.value)


def test_keys_that_are_no_text_are_unknown_settings(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("5: 3\nyes: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    assert [p.partition(":")[0] for p in error.value.problems] == ["5", "True"]
