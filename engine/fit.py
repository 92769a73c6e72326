"""Makes a run fit the memory it may use: what costs nothing first, what costs quality last.

The order is fixed; a change after which no less is needed is not made, and one that turns out not
to be needed is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.data.glance import glance
from engine.known_models import quantized_name
from engine.planning import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.config import RunConfig
    from engine.lengths import Lengths
    from engine.machine import Machine
    from engine.planning import RunPlan

FREE = "the same result"
CACHE = "the same result; buffers are made anew more often"
SMALLEST_CHUNK, SHORTEST, LOWEST_RANK = 32, 256, 4
ROUNDS = 3
"""How often what costs quality is halved at most."""


@dataclass(frozen=True, slots=True)
class Change:
    """One setting changed so that the run fits."""

    setting: str
    before: Any
    after: Any
    saved_bytes: int
    """What is needed less."""
    time_ratio: float | None
    """The run's time after it, to that before; None when the speed is not known."""
    cost: str
    """What it costs in quality, in words."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A run made to fit, or as near as it comes."""

    plan: RunPlan
    changes: tuple[Change, ...]

    @property
    def config(self) -> RunConfig:
        """The settings after all changes."""
        return self.plan.config


@dataclass(frozen=True, slots=True)
class _Proposal:
    setting: str
    after: Any
    cost: str


def fit(config: RunConfig, machine: Machine, lengths: Lengths | None = None) -> Fitted:
    """Change as little as is needed for a run to fit this machine, in the order of what it costs.

    Args:
        config: what was asked for.
        machine: what would train it.
        lengths: of the training rows; None finds out what can be told cheaply.

    Raises:
        ModelError: when nothing is known of the model.
        ConfigError: when the adapters do not suit it.
    """

    def planned(values: dict[str, Any]) -> RunPlan:
        return make_plan(_changed(config, values), machine, lengths=lengths, seen=seen)

    seen = glance(config)
    plan = planned({})
    values: dict[str, Any] = {}
    tried: dict[str, list[_Proposal]] = {}
    """What each setting was changed to, one after the other."""
    for _ in range(ROUNDS):
        for propose in _ORDER:
            for proposal in propose(plan):
                if plan.fits:
                    break
                changed = values | {proposal.setting: proposal.after}
                if (smaller := planned(changed)).needed_bytes < plan.needed_bytes:
                    values, plan = changed, smaller
                    tried.setdefault(proposal.setting, []).append(proposal)
    if plan.fits:
        values = _only_needed(values, tried, planned)
    values = {setting: values[setting] for setting in _SETTINGS if setting in values}
    costs = {setting: proposals[0].cost for setting, proposals in tried.items()}
    return Fitted(planned(values), tuple(_explained(values, costs, planned)))


def fitted_config(config: RunConfig, machine: Machine) -> RunConfig:
    """Return the settings of a run that fits this machine, or as near as they come."""
    return fit(config, machine).config


def _only_needed(
    values: dict[str, Any],
    tried: dict[str, list[_Proposal]],
    planned: Callable[[dict[str, Any]], RunPlan],
) -> dict[str, Any]:
    """Take back what later changes made needless, wholly or in part, the costliest first."""
    for setting in sorted(values, key=_SETTINGS.index, reverse=True):
        without = {key: value for key, value in values.items() if key != setting}
        milder = [without, *(values | {setting: proposal.after} for proposal in tried[setting])]
        values = next(candidate for candidate in milder if planned(candidate).fits)
    return values


def _explained(
    values: dict[str, Any], costs: dict[str, str], planned: Callable[[dict[str, Any]], RunPlan]
) -> Iterator[Change]:
    """Say what each change brings on top of those before it."""
    made: dict[str, Any] = {}
    before = planned(made)
    for setting, value in values.items():
        made[setting] = value
        after = planned(made)
        yield Change(
            setting=setting,
            before=_current(before, setting),
            after=value,
            saved_bytes=before.needed_bytes - after.needed_bytes,
            time_ratio=_ratio(before, after),
            cost=costs[setting],
        )
        before = after


def _ratio(before: RunPlan, after: RunPlan) -> float | None:
    if before.seconds is None or after.seconds is None:
        return None
    return after.seconds.high / before.seconds.high


def _current(plan: RunPlan, setting: str) -> Any:
    if setting == "micro_batch_size":
        return plan.micro_batch
    section, _, key = setting.rpartition(".")
    return getattr(getattr(plan.config, section) if section else plan.config, key)


def _changed(config: RunConfig, values: dict[str, Any]) -> RunConfig:
    """Return the settings with some replaced; a dotted one is inside a section."""
    plain = {key: value for key, value in values.items() if "." not in key}
    inner = {
        key.partition(".")[2]: value
        for key, value in values.items()
        if key.startswith("lora_parameters.")
    }
    if inner:
        plain["lora_parameters"] = config.lora_parameters.model_copy(update=inner)
    return config.model_copy(update=plain)


def _micro_batch(plan: RunPlan) -> Iterator[_Proposal]:
    rows = plan.micro_batch
    while rows > 1:
        rows = (rows + 1) // 2
        yield _Proposal("micro_batch_size", rows, FREE)


def _chunk(plan: RunPlan) -> Iterator[_Proposal]:
    chunk = plan.config.tail_chunk
    while chunk > SMALLEST_CHUNK:
        chunk = max(SMALLEST_CHUNK, chunk // 2)
        yield _Proposal("tail_chunk", chunk, FREE)


def _cache(plan: RunPlan) -> Iterator[_Proposal]:
    kept = plan.config.cache_limit_bytes or 0
    if kept:
        spare = max(0, plan.budget - plan.memory.peak)
        yield _Proposal("cache_limit_bytes", min(kept // 2, spare), CACHE)


def _free_ways(plan: RunPlan) -> Iterator[_Proposal]:
    if plan.config.attention == "fused":
        yield _Proposal("attention", "auto", FREE)
    if plan.config.step == "whole-graph":
        yield _Proposal("step", "auto", FREE)


def _batch(plan: RunPlan) -> Iterator[_Proposal]:
    if (rows := plan.config.batch_size) > 1:
        yield _Proposal("batch_size", rows // 2, "half the rows are seen")


def _length(plan: RunPlan) -> Iterator[_Proposal]:
    if (length := plan.config.max_seq_length) >= 2 * SHORTEST:
        half = length // 2
        cut = sum(n > half for n in plan.lengths.high) / len(plan.lengths.high)
        share = f", at most {100 * cut:.0f} % of them" if plan.lengths.rows else ""
        yield _Proposal("max_seq_length", half, f"longer rows are cut{share}")


def _accumulation(plan: RunPlan) -> Iterator[_Proposal]:
    if (steps := plan.config.grad_accumulation_steps) > 1:
        yield _Proposal("grad_accumulation_steps", steps // 2, "noisier updates, twice as many")


def _rank(plan: RunPlan) -> Iterator[_Proposal]:
    rank = plan.config.lora_parameters.rank
    if plan.config.fine_tune_type != "full" and rank >= 2 * LOWEST_RANK:
        yield _Proposal("lora_parameters.rank", rank // 2, "adapters that can hold half as much")


def _layers(plan: RunPlan) -> Iterator[_Proposal]:
    count = len(plan.model.layers)
    asked = plan.config.num_layers
    layers = asked if 0 < asked <= count else count
    if layers > 1:
        yield _Proposal("num_layers", layers // 2, "only the last layers learn")


def _quantized(plan: RunPlan) -> Iterator[_Proposal]:
    if name := quantized_name(plan.config.model):
        yield _Proposal("model", name, "weights of 4 bits are a little less exact")


_ORDER: tuple[Callable[[RunPlan], Iterator[_Proposal]], ...] = (
    _micro_batch,
    _chunk,
    _cache,
    _free_ways,
    _batch,
    _length,
    _accumulation,
    _rank,
    _layers,
    _quantized,
)
_SETTINGS = (
    "micro_batch_size",
    "tail_chunk",
    "cache_limit_bytes",
    "attention",
    "step",
    "batch_size",
    "max_seq_length",
    "grad_accumulation_steps",
    "lora_parameters.rank",
    "num_layers",
    "model",
)
"""All that may be changed, what costs least first."""
