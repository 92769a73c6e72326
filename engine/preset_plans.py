"""Plans every preset for a machine, so that each can say whether it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.config import load_config
from engine.planning import make_plan
from engine.preset_files import preset_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.machine import Machine
    from engine.planning import RunPlan


def plan_presets(machine: Machine) -> dict[str, RunPlan]:
    """Return the plan of every preset; needs no network, as all their models are known."""
    return {name: make_plan(load_config(name), machine) for name in preset_names()}


def alternative(name: str, plans: Mapping[str, RunPlan]) -> str | None:
    """Return the preset to try when one does not fit: the nearest that does, or None.

    Nearest is the same model with the same data, then the same model, then the most memory.
    """
    wanted = plans[name].config
    fitting = [other for other, plan in plans.items() if plan.fits and other != name]

    def nearness(other: str) -> tuple[bool, bool, int]:
        config = plans[other].config
        is_same_model = config.model == wanted.model
        is_same_data = config.data == wanted.data
        return is_same_model and is_same_data, is_same_model, plans[other].memory.peak

    return max(fitting, key=nearness, default=None)
