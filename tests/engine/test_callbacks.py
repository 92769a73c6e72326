"""Who is told of a run hears mlx-lm's dictionaries and ours, and can neither end nor slow it."""

from __future__ import annotations

import json
import struct
import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from engine import callbacks as callbacks_module
from engine import events as ev
from engine.callbacks import LIMIT_SECONDS, Callbacks
from engine.config import validate
from engine.errors import ConfigError
from engine.report_names import names_in
from engine.reporters import step_numbers
from engine.session import Session
from tests.engine.samples import filled
from tests.engine.workshop import PATIENCE, finish

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.workshop import Finished, Workshop


class Heard:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda argument: self.calls.append((name, argument))

    def of(self, name: str) -> list[Any]:
        return [argument for called, argument in self.calls if called == name]


def session_with(workshop: Workshop, *callbacks: object, **changes: Any) -> Session:
    made = workshop.session(**changes)
    return Session(made.config, made.directory, callbacks=callbacks)


def test_it_hears_mlx_lms_dictionaries_and_ours(workshop: Workshop) -> None:
    from mlx_lm.tuner.callbacks import TrainingCallback

    class Theirs(TrainingCallback):
        def __init__(self) -> None:
            self.train: list[dict[str, Any]] = []
            self.valid: list[dict[str, Any]] = []

        def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
            self.train.append(train_info)

        def on_val_loss_report(self, val_info: dict[str, Any]) -> None:
            self.valid.append(val_info)

    heard, theirs = Heard(), Theirs()
    run = finish(session_with(workshop, heard, theirs, iters=5, steps_per_report=2))
    steps = run.of(ev.Step)
    assert [info["iteration"] for info in theirs.train] == [2, 4, 5]
    assert set(theirs.train[0]) == {
        "iteration", "train_loss", "learning_rate", "iterations_per_second", "tokens_per_second",
        "trained_tokens", "peak_memory",
    }  # fmt: skip
    assert theirs.train[0]["train_loss"] == pytest.approx((steps[0].loss + steps[1].loss) / 2)
    assert theirs.train[-1]["trained_tokens"] == steps[-1].trained_tokens
    assert [set(info) for info in theirs.valid] == [{"iteration", "val_loss", "val_time"}] * 3
    assert [info["val_loss"] for info in theirs.valid] == [e.val_loss for e in run.of(ev.Evaluated)]
    assert heard.of("on_step") == steps
    assert heard.of("on_checkpoint") == run.of(ev.CheckpointSaved)
    assert heard.of("on_end") == [run.ended]
    assert heard.of("on_event") == list(run.events)
    assert next(name for name, _ in heard.calls if name != "on_event") == "on_start"


def test_one_that_raises_is_said_once_and_dropped(workshop: Workshop) -> None:
    class Broken:
        calls = 0

        def on_step(self, event: ev.Step) -> None:
            self.calls += 1
            raise ValueError(f"no {event.iteration}")

    broken, heard = Broken(), Heard()
    run = finish(session_with(workshop, broken, heard))
    assert run.ended.status == "completed"
    assert broken.calls == 1
    assert len(heard.of("on_step")) == 6
    log = run.directory.log_file
    said = [event.message for event in run.of(ev.Warned)]
    said += log.read_text().splitlines() if log.exists() else []
    (words,) = (words for words in said if "Broken" in words)
    assert "is not told of this run any more: on_step raised ValueError: no 1." in words


def test_one_that_hangs_is_dropped_after_its_time() -> None:
    now, entered, leave = [0.0], threading.Event(), threading.Event()

    class Hanging:
        def on_start(self, event: ev.Started) -> None:
            del event
            entered.set()
            leave.wait(PATIENCE)

    callbacks = Callbacks([Hanging()], 10, clock=lambda: now[0])
    assert callbacks.deliver(filled(ev.Started)) == []
    assert entered.wait(PATIENCE)
    now[0] = LIMIT_SECONDS
    assert callbacks.deliver(filled(ev.Step)) == []
    now[0] += 1
    (problem,) = callbacks.deliver(filled(ev.Step))
    assert "Hanging" in problem
    assert "more than 30 s" in problem
    assert callbacks.deliver(filled(ev.Step)) == []
    leave.set()


def test_one_that_is_not_done_in_the_end_is_left_behind() -> None:
    leave = threading.Event()

    class Slow:
        def on_end(self, event: ev.Ended) -> None:
            del event
            leave.wait(PATIENCE)

    callbacks = Callbacks([Slow()], 10)
    callbacks.deliver(filled(ev.Started))
    callbacks.deliver(filled(ev.Ended))
    (problem,) = callbacks.close(seconds=0.05)
    assert "not done" in problem
    leave.set()


def test_reporters_are_known_by_name() -> None:
    assert names_in(validate({"report_to": "WandB, trackio"}).report_to) == ("wandb", "trackio")
    with pytest.raises(ConfigError, match="Did you mean 'wandb'"):
        validate({"report_to": "wandbb"})


def test_a_reporter_that_is_not_installed_is_said(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    run = finish(workshop.session(report_to="trackio", iters=2))
    assert run.ended.status == "completed"
    log = run.directory.log_file
    said = " ".join(event.message for event in run.of(ev.Warned))
    assert "uv pip install trackio" in said + (log.read_text() if log.exists() else "")


def in_journal(run: Finished) -> dict[str, list[tuple[int, float]]]:
    """Every figure that reporters plot, by name, with its iteration."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event in run.events:
        if isinstance(event, ev.Step):
            values = step_numbers(event)
        elif isinstance(event, ev.Evaluated):
            values = {"val_loss": event.val_loss}
        else:
            continue
        for name, value in values.items():
            found.setdefault(name, []).append((event.iteration, value))
    assert len(found["train_loss"]) == 4
    assert len(found["val_loss"]) == 3
    return found


def losses_in(run: Finished) -> dict[str, list[tuple[int, float]]]:
    """What mlx-lm's own callbacks are given of a run that reports every step."""
    return {name: in_journal(run)[name] for name in ("train_loss", "val_loss")}


def test_tensorboard_has_the_journals_numbers(workshop: Workshop) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = finish(workshop.session(report_to="tensorboard", iters=4))
    found = EventAccumulator(str(run.directory.path / "tensorboard")).Reload()
    expected = in_journal(run)
    tags: Any = found.Tags()["tensors"]
    assert set(tags) == set(expected)
    for name, points in expected.items():
        entries = [(e.step, e.tensor_proto.float_val[0]) for e in found.Tensors(name)]
        assert [step for step, _ in entries] == [iteration for iteration, _ in points]
        # Its files hold 32 bits.
        assert [v for _, v in entries] == pytest.approx([v for _, v in points], rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_trackio_has_the_journals_numbers(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    from trackio.sqlite_storage import SQLiteStorage

    run = finish(workshop.session(report_to="trackio", project_name="tests", iters=4))
    logged = SQLiteStorage.get_logs("tests", run.directory.name)
    for name, points in in_journal(run).items():
        assert [(row["step"], row[name]) for row in logged if name in row] == points, name


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wandb without a network, without words, and with all the time that it needs to begin."""
    monkeypatch.setattr(callbacks_module, "LIMIT_SECONDS", PATIENCE)
    monkeypatch.setattr(callbacks_module, "END_SECONDS", PATIENCE)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("offline")
def test_wandb_has_the_journals_numbers(workshop: Workshop) -> None:
    run = finish(workshop.session(report_to="wandb", iters=4, steps_per_report=1))
    log = run.directory.log_file
    assert "not told" not in (log.read_text() if log.exists() else "")
    assert not [event for event in run.of(ev.Warned) if "wandb" in event.message]
    (file,) = run.directory.path.rglob("*.wandb")
    assert wandb_history(file) == losses_in(run)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("offline")
def test_mlx_lms_wandb_object_works_as_a_callback(workshop: Workshop, tmp_path: Path) -> None:
    import wandb
    from mlx_lm.tuner.callbacks import WandBCallback

    theirs = WandBCallback("tests", str(tmp_path), {})
    run = finish(session_with(workshop, theirs, iters=4, steps_per_report=1))
    wandb.finish()
    (file,) = tmp_path.rglob("*.wandb")
    assert wandb_history(file) == losses_in(run)


def wandb_history(file: Path) -> dict[str, list[tuple[int, float]]]:
    """Read losses back from wandb's offline file: LevelDB's log format after seven bytes."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    record_of: Any = getattr(wandb_internal_pb2, "Record")  # noqa: B009 - made at run time

    # A run that is finished may still be on its way to the file; the writer's end waits for it.
    wandb.teardown()
    data, at, whole = file.read_bytes(), 7, b""
    found: dict[str, list[tuple[int, float]]] = {"train_loss": [], "val_loss": []}
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        # 1 is a whole record, 4 the last part of one.
        if kind in (1, 4):
            record = record_of()
            record.ParseFromString(whole)
            items = record.history.item
            values = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            for name in found.keys() & values.keys():
                found[name].append((values["_step"], values[name]))
            whole = b""
    return found


def test_swanlab_is_used_as_mlx_lm_uses_it(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its package is in none of our groups: a stand-in writes down what it is asked for."""
    logged: list[tuple[int, dict[str, Any]]] = []
    begun: list[dict[str, Any]] = []
    ended: list[bool] = []
    module = ModuleType("swanlab")
    module.init = lambda **settings: begun.append(settings)  # pyright: ignore[reportAttributeAccessIssue]
    module.log = lambda values, step: logged.append((step, values))  # pyright: ignore[reportAttributeAccessIssue]
    module.finish = lambda: ended.append(True)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "swanlab", module)
    monkeypatch.setattr("mlx_lm.tuner.callbacks.swanlab", module)
    run = finish(
        workshop.session(report_to="swanlab", project_name="tests", iters=4, steps_per_report=1)
    )
    assert [settings["project"] for settings in begun] == ["tests"]
    assert begun[0]["config"]["iters"] == 4
    for name, points in losses_in(run).items():
        assert [(step, values[name]) for step, values in logged if name in values] == points
    assert ended == [True]
