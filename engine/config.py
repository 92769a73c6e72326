"""A run's settings: mlx-lm's own YAML keys and defaults, and ours under names of their own.

A file written for ``mlx_lm.lora -c`` is read unchanged. All its problems are reported at once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from engine.errors import ConfigError, did_you_mean
from engine.events import Policy
from engine.preset_files import preset_names, preset_path
from engine.report_names import names_in
from engine.setting_problems import explain

Optimizer = Literal["adam", "adamw", "muon", "sgd", "adafactor"]
_REVISION = r"^\w[\w.-]*(/\w[\w.-]*)*$"
Format = Literal["prompt/completion", "chat", "alpaca", "sharegpt", "oasst", "llama-2", "text"]


class Section(BaseModel):
    """Settings are frozen, and a key that nobody reads is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic would take true for 1."""
        wanted = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and wanted is not bool:
            raise ValueError(f"should not be true or false, but is {value}".lower())
        return value


class LoraParameters(Section):
    """The shape of the adapters."""

    rank: int = Field(default=8, ge=1)
    scale: float
    """Factor of the low-rank update, used directly (PEFT's alpha is scale × rank)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    keys: list[str] | None = None
    """Names of the modules to adapt inside a layer; None means every linear module."""


class Schedule(Section):
    """A learning-rate schedule as ``mlx_lm.tuner.utils.build_schedule`` takes it."""

    name: Literal["cosine_decay", "exponential_decay", "linear_schedule", "step_decay"]
    arguments: list[float]
    warmup: int = Field(default=0, ge=0)
    """Optimiser updates."""
    warmup_init: float = Field(default=0.0, ge=0)


class HubDataset(Section):
    """Parts of a data set of the hub, as mlx-lm's ``hf_dataset`` names them."""

    path: str
    name: str | None = None
    """Has no effect, as in mlx-lm; where there is no path, it is the path."""
    config: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Arguments for ``datasets.load_dataset``, such as its ``name``."""
    train_split: str = "train[:80%]"
    valid_split: str = "train[-10%:]"
    test_split: str | None = None
    prompt_feature: str = "prompt"
    completion_feature: str = "completion"
    text_feature: str = "text"
    chat_feature: str = "messages"

    @model_validator(mode="before")
    @classmethod
    def _name_is_path(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = cast("dict[str, Any]", values)
        return {"path": given["name"], **given} if "name" in given else given


class RunConfig(Section):
    """Every setting of a run. The first block is mlx-lm's, the second ours."""

    model: str = "Qwen/Qwen3-0.6b"
    """A folder, or a name on the Hugging Face hub."""
    data: str = "mlx-community/WikiSQL"
    """A folder with train, valid and test files, one file, or a data set's name on the hub."""
    hf_dataset: list[HubDataset] = Field(default_factory=list[HubDataset])
    """Data sets of the hub by their splits, one after the other; ``data`` is then not read."""
    train: bool = True
    fine_tune_type: Literal["lora", "dora", "full"] = "lora"
    optimizer: Optimizer = "adam"
    optimizer_config: dict[Optimizer, dict[str, Any]] = Field(
        default_factory=dict[Optimizer, dict[str, Any]]
    )
    seed: int = Field(default=0, ge=0)
    num_layers: int = Field(default=16, ge=-1)
    """Layers to train, counted from the last; -1 means all."""
    batch_size: int = Field(default=4, ge=1)
    iters: int = Field(default=1000, ge=1)
    val_batches: int = Field(default=25, ge=-1)
    """-1 means all validation rows, 0 no evaluation."""
    learning_rate: float = Field(default=1e-5, ge=0)
    steps_per_report: int = Field(default=10, ge=1)
    """Iterations between lines of ``--plain``; the dashboard and the journal have every one."""
    steps_per_eval: int = Field(default=200, ge=1)
    resume_adapter_file: str | None = None
    """Adapter weights to begin with. Not a resume: optimiser and position start afresh."""
    adapter_path: str | None = None
    """A folder that also gets the newest adapters; the run keeps its own in any case."""
    save_every: int = Field(default=100, ge=1)
    test: bool = False
    test_batches: int = Field(default=500, ge=-1)
    max_seq_length: int = Field(default=2048, ge=8)
    """Tokens; longer rows are cut."""
    config: str | None = None
    grad_checkpoint: bool = False
    """Has no effect: a step here never holds more than a layer's activations at a time."""
    grad_accumulation_steps: int = Field(default=1, ge=1)
    clear_cache_threshold: int | str = 0
    lr_schedule: Schedule | None = None
    lora_parameters: LoraParameters = LoraParameters(rank=8, dropout=0.0, scale=20.0)
    mask_prompt: bool = False
    """Train on the assistant's turns only (all of them)."""
    report_to: str | None = None
    """wandb, swanlab, trackio or tensorboard, several with commas between them."""
    project_name: str | None = None
    trust_remote_code: bool = False
    prompt_feature: str = "prompt"
    completion_feature: str = "completion"
    text_feature: str = "text"
    chat_feature: str = "messages"

    revision: str | None = Field(default=None, pattern=_REVISION)
    """Commit, branch or tag of a model on the hub; a run keeps the commit that it began with."""
    data_revision: str | None = Field(default=None, pattern=_REVISION)
    """The same of ``data``; that of ``hf_dataset`` is the revision in its own config."""
    name: str | None = None
    """What the run is called; None makes a name from model and data."""
    data_format: Literal["auto"] | Format = "auto"
    """What the rows are; auto looks at them."""
    validation_split: float = Field(default=0.02, ge=0, le=0.5)
    """Share of the training rows to measure on where there are no validation rows; 0 for none."""
    memory_budget_bytes: int | None = Field(default=None, ge=100_000_000)
    """What the run may use; None leaves it to the machine."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows evaluated at once inside a step; None chooses from the budget."""
    cache_limit_bytes: int | None = Field(default=None, ge=0)
    """Freed buffers that MLX keeps for reuse, beyond what a step needs; None means an eighth of the
    budget and at most 512 MB, given back whenever a step needs it."""
    probe: bool = True
    """Try the widest step before the first one, unless that would take 2 % of the run or more."""
    step: Literal["auto", "layers", "whole-graph"] = "auto"
    tail_chunk: int = Field(default=512, ge=8)
    """Positions whose logits exist at once."""
    attention: Literal["auto", "fused", "chunked"] = "auto"
    """chunked bounds the score matrix; auto is fused where the device has a fused backward pass."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Clip the gradient's norm to this; None means no clipping, as in mlx-lm."""
    keep_last: int = Field(default=5, ge=1)
    """Newest checkpoints that are kept; the best one is kept besides."""
    keep_every: int | None = Field(default=None, ge=1)
    """Checkpoints at multiples of this many iterations are kept for good."""
    early_stopping: int | None = Field(default=None, ge=1)
    """Evaluations without a lower validation loss after which the run ends; None means never."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type of the frozen weights; auto keeps the model's own, and is float32 on a CPU."""
    sample_prompts: list[str] = Field(default_factory=list[str])
    """Answered by the base model once, and by the adapter at every evaluation."""
    sample_rows: int = Field(default=1, ge=0, le=16)
    """Validation rows whose beginnings are answered where there are no ``sample_prompts``."""
    sample_max_tokens: int = Field(default=64, ge=1, le=1024)
    on_pressure: Policy = "protect"
    """When memory runs short: watch does nothing, protect shrinks and pauses, abort stops."""
    yellow_seconds: float = Field(default=5.0, ge=0)
    """Memory pressure has to be yellow for so long before the guard acts."""
    grace_seconds: float = Field(default=10.0, ge=0)
    """Seconds of yellow that follow one action of the guard before the next."""
    green_seconds: float = Field(default=30.0, ge=0)
    """Memory pressure has to be green for so long before a run that the guard paused goes on."""
    deep_pause: bool = True
    """Whether a pause of the guard's gives the base weights back too; going on loads them again."""
    on_hangup: Literal["continue", "stop"] = "continue"
    """When the terminal is closed: continue trains on without a screen, stop saves and ends."""

    sample_max_seconds: float = Field(default=60.0, gt=0)
    """The longest that one answer may take; it is cut there."""

    @field_validator("report_to")
    @classmethod
    def _know_reporters(cls, value: str | None) -> str | None:
        names_in(value)
        return value

    @model_validator(mode="before")
    @classmethod
    def _name_hub_data(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Take one ``hf_dataset`` for a list of one, and its name for the name of the data."""
        given: Any = values.get("hf_dataset")
        if not given:
            return values
        several = cast("list[Any]", given) if isinstance(given, list) else [given]
        sections = [cast("dict[str, Any]", one) for one in several if isinstance(one, dict)]
        paths = [str(one.get("path") or one.get("name")) for one in sections]
        return {"data": " + ".join(paths), **values, "hf_dataset": several}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads ``1e-5`` as a string; here, as in mlx-lm, it is a number."""


class _Dumper(yaml.SafeDumper):
    """Puts quotes around text that ``_Loader`` would take for a number."""


for _part in (_Loader, _Dumper):
    _part.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(
            r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
            r"|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        list("-+0123456789."),
    )


def parse_yaml(text: str) -> Any:
    """Read YAML as mlx-lm does.

    Raises:
        yaml.YAMLError: when it is not YAML.
    """
    return yaml.load(text, _Loader)


def load_config(source: str, overrides: dict[str, Any] | None = None) -> RunConfig:
    """Read a preset by name or a YAML file by path, with some settings replaced.

    Args:
        source: a preset's name, or the path of a YAML file.
        overrides: settings by key; a dotted key reaches inside a section.

    Raises:
        ConfigError: listing every problem found.
    """
    path, is_preset = _find(source)
    values = _read(path)
    if is_preset:
        _anchor(values, path.parent)
    for key, value in (overrides or {}).items():
        _put(values, key, value)
    return validate(values, source if is_preset else str(path))


def validate(values: dict[str, Any], source: str = "") -> RunConfig:
    """Check settings by key and return them typed.

    Raises:
        ConfigError: listing every problem found.
    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        return RunConfig.model_validate(given)
    except ValidationError as error:
        problems = [explain(problem, _SECTIONS) for problem in error.errors()]
        raise ConfigError(
            problems, source, "Correct these settings, or give others with --set key=value."
        ) from None


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value`` and read the value as YAML.

    Raises:
        ConfigError: when there is no ``=``, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([f"--set {text}: write it as key=value"])
    try:
        return key.strip(), parse_yaml(value)
    except yaml.YAMLError:
        raise ConfigError([f"--set {text}: the value is not valid YAML"]) from None


def dump(config: RunConfig) -> str:
    """Return the settings as YAML that both this program and mlx-lm read."""
    values = config.model_dump(mode="json", exclude_none=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _find(source: str) -> tuple[Path, bool]:
    path = Path(source).expanduser()
    looks_like_file = path.suffix in {".yaml", ".yml"} or "/" in source
    if not looks_like_file and source in preset_names():
        return preset_path(source), True
    if path.is_file():
        return path, False
    if looks_like_file or path.exists():
        what = "is a folder, not a YAML file" if path.is_dir() else "does not exist"
        raise ConfigError([f"{source} {what}"], hint="Give a preset's name or a YAML file.")
    known = preset_names()
    raise ConfigError(
        [f"there is no preset '{source}'.{did_you_mean(source, known)}"],
        hint=f"Presets: {', '.join(known)}. Or give the path of a YAML file.",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigError([f"line {line} is not valid YAML: {error.problem}"], str(path)) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([f"it cannot be read: {error}"], str(path)) from None
    if not isinstance(values, dict):
        raise ConfigError(["it holds no settings (expected 'key: value' lines)"], str(path))
    return {str(key): value for key, value in cast("dict[Any, Any]", values).items()}


def _anchor(values: dict[str, Any], folder: Path) -> None:
    """Point a preset's own model and data at the files that come with it."""
    for key in ("model", "data"):
        value = values.get(key)
        if isinstance(value, str) and (folder / value).exists():
            values[key] = str(folder / value)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for depth, section in enumerate(sections):
        inner = values.get(section, {} if depth else _default_section(section))
        values[section] = dict(cast("dict[str, Any]", inner)) if isinstance(inner, dict) else {}
        values = values[section]
    values[last] = value


def _default_section(key: str) -> dict[str, Any]:
    """What a section holds where the file does not give it, so that one key of it can be set."""
    field = RunConfig.model_fields.get(key)
    return field.default.model_dump() if field and isinstance(field.default, Section) else {}


_SECTIONS: dict[str, type[BaseModel]] = {
    "": RunConfig,
    "lora_parameters": LoraParameters,
    "lr_schedule": Schedule,
    "hf_dataset": HubDataset,
}
"""What each section of the settings is made of."""
