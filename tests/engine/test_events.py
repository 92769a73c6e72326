"""Events come back from their JSON line as they were, also from versions that know more or less."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from engine import events as ev
from tests.engine.samples import emptied, filled

KINDS = sorted(ev.KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_every_field_comes_back(name: str) -> None:
    event = filled(ev.KINDS[name])
    line = ev.to_json(event)
    assert "\n" not in line
    assert ev.from_dict(json.loads(line)) == event


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_known_comes_back_as_not_known(name: str) -> None:
    event = emptied(ev.KINDS[name])
    assert ev.from_dict(json.loads(ev.to_json(event))) == event


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_comes_first_and_fields_keep_their_names(name: str) -> None:
    kind = ev.KINDS[name]
    values = json.loads(ev.to_json(filled(kind)))
    assert list(values) == ["event", *(field.name for field in fields(kind))]
    assert values["event"] == name == kind.kind


def test_every_kind_of_event_is_known() -> None:
    # By name: a dataclass with slots is made twice, and the first one stays a subclass.
    assert {kind.__name__ for kind in ev.Event.__subclasses__()} == {
        kind.__name__ for kind in ev.KINDS.values()
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null_and_comes_back_as_nan(number: float) -> None:
    event = ev.Evaluated(time=1.0, iteration=2, val_loss=number, best=False, seconds=0.5, tokens=8)
    values = json.loads(ev.to_json(event))
    assert values["val_loss"] is None
    back = ev.from_dict(values)
    assert isinstance(back, ev.Evaluated)
    assert math.isnan(back.val_loss)


def test_a_whole_number_comes_back_as_the_float_that_it_is() -> None:
    back = ev.from_dict({"event": "resumed", "time": 3, "iteration": 2, "paused_seconds": 4})
    assert isinstance(back, ev.Resumed)
    assert (type(back.time), type(back.paused_seconds)) == (float, float)


def test_settings_inside_an_event_are_plain_values() -> None:
    config = {"rate": math.inf, "names": ("a", "b"), "inner": {1: [math.nan, None, True]}}
    started: ev.Started = replace(filled(ev.Started), config=config)
    plain = json.loads(ev.to_json(started))["config"]
    assert plain == {"rate": None, "names": ["a", "b"], "inner": {"1": [None, None, True]}}


def test_fields_of_a_newer_version_are_left_out() -> None:
    event = filled(ev.Step)
    values = json.loads(ev.to_json(event)) | {"mood": "good", "deep": {"a": [1]}}
    values["memory"]["swapped"] = 5
    assert ev.from_dict(values) == event


def test_fields_of_an_older_version_take_their_defaults() -> None:
    values = json.loads(ev.to_json(filled(ev.Step)))
    for name in ("updates", "width", "micro_batch", "epoch", "gradient_norm"):
        del values[name]
    back = ev.from_dict(values)
    assert isinstance(back, ev.Step)
    assert (back.updates, back.width, back.epoch, back.gradient_norm) == (0, 0, 0.0, None)


@pytest.mark.parametrize("values", [{"event": "sang", "time": 1.0}, {"time": 1.0}, {}])
def test_a_kind_of_a_newer_version_is_nothing(values: dict[str, object]) -> None:
    assert ev.from_dict(values) is None


def test_a_field_that_every_version_has_may_not_be_missing() -> None:
    with pytest.raises(TypeError, match="iteration"):
        ev.from_dict({"event": "paused", "time": 1.0})


def test_events_cannot_be_changed() -> None:
    event = ev.Warned(time=1.0, message="slow")
    with pytest.raises(FrozenInstanceError):
        event.message = "fast"  # pyright: ignore[reportAttributeAccessIssue]


def test_planned_peak_is_the_sum_of_its_parts() -> None:
    plan = ev.MemoryPlan(*(2**i for i in range(8)))
    assert plan.peak == 2**8 - 1
