"""What ``report_to`` names: mlx-lm's wandb and swanlab, and trackio and tensorboard besides.

Each is imported and opened on its callback's own thread, when the run begins.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any

from engine.report_names import REPORTERS, names_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine import events as ev
    from engine.config import RunConfig
    from engine.runs import RunDirectory

LOGS = "tensorboard"
"""The folder in a run's that tensorboard's files go to."""


def reporters_of(config: RunConfig, directory: RunDirectory) -> list[object]:
    """Return the callbacks that a run's settings ask for; nothing is imported yet."""
    makers: dict[str, Callable[[RunConfig, RunDirectory], object]] = {
        "wandb": lambda c, d: MlxLmReporter("wandb", c, d),
        "swanlab": lambda c, d: MlxLmReporter("swanlab", c, d),
        "trackio": TrackioReporter,
        "tensorboard": TensorboardReporter,
    }
    wanted = names_in(config.report_to)
    return [makers[name](config, directory) for name in REPORTERS if name in wanted]


class MlxLmReporter:
    """One of mlx-lm's own callbacks, made as ``mlx_lm.lora`` makes it."""

    def __init__(self, name: str, config: RunConfig, directory: RunDirectory) -> None:
        self.name = f"report_to: {name}"
        self._kind = name
        self._config = config
        self._directory = directory
        self._inner: Any = None

    def on_start(self, event: ev.Started) -> None:
        """Open it."""
        _installed(self._kind)
        from mlx_lm.tuner import callbacks

        made: Any = callbacks.SUPPORT_CALLBACK[self._kind]
        self._inner = made(
            project_name=self._config.project_name or self._directory.path.parent.name,
            log_dir=str(self._directory.path),
            config=event.config,
        )

    def on_train_loss_report(self, train_info: dict[str, Any]) -> None:
        """Pass on."""
        self._inner.on_train_loss_report(train_info)

    def on_val_loss_report(self, val_info: dict[str, Any]) -> None:
        """Pass on."""
        self._inner.on_val_loss_report(val_info)

    def on_end(self, event: ev.Ended) -> None:
        """Close it, so that nothing waits in memory."""
        _installed(self._kind).finish(**_exit_code(self._kind, event))


class TrackioReporter:
    """Every step, evaluation and test to trackio's own store on this machine."""

    name = "report_to: trackio"

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        self._config = config
        self._directory = directory
        self._run: Any = None

    def on_start(self, event: ev.Started) -> None:
        """Begin a run of trackio's, or go on with it."""
        self._run = _installed("trackio").init(
            project=self._config.project_name or "lora-tui",
            name=self._directory.name,
            config=_flat(event.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def on_step(self, event: ev.Step) -> None:
        """Log a step."""
        self._run.log(step_numbers(event), step=event.iteration)

    def on_evaluation(self, event: ev.Evaluated) -> None:
        """Log an evaluation."""
        self._run.log({"val_loss": event.val_loss}, step=event.iteration)

    def on_test(self, event: ev.Tested) -> None:
        """Log the test."""
        self._run.log({"test_loss": event.test_loss}, step=event.iteration)

    def on_end(self, event: ev.Ended) -> None:
        """Write everything down."""
        del event
        self._run.finish()


class TensorboardReporter:
    """Every step, evaluation and test to an event file in the run's folder."""

    name = "report_to: tensorboard"

    def __init__(self, config: RunConfig, directory: RunDirectory) -> None:
        del config
        self._folder = directory.path / LOGS
        self._writer: Any = None

    def on_start(self, event: ev.Started) -> None:
        """Open the file."""
        del event
        self._writer = _installed("tensorboard.summary").Writer(str(self._folder))

    def on_step(self, event: ev.Step) -> None:
        """Log a step."""
        for name, value in step_numbers(event).items():
            self._add(name, value, event)

    def on_evaluation(self, event: ev.Evaluated) -> None:
        """Log an evaluation, and let who watches see it."""
        self._add("val_loss", event.val_loss, event)
        self._writer.flush()

    def on_test(self, event: ev.Tested) -> None:
        """Log the test."""
        self._add("test_loss", event.test_loss, event)

    def on_end(self, event: ev.Ended) -> None:
        """Write everything down."""
        del event
        self._writer.close()

    def _add(self, name: str, value: float, event: ev.Step | ev.Evaluated | ev.Tested) -> None:
        self._writer.add_scalar(name, value, event.iteration, wall_time=event.time)


def step_numbers(event: ev.Step) -> dict[str, float]:
    """Return what of a step is plotted: the journal's own numbers, those that are finite."""
    values = {
        "train_loss": event.loss,
        "learning_rate": event.learning_rate,
        "tokens_per_second": event.tokens_per_second,
        "iterations_per_second": event.iterations_per_second,
        "trained_tokens": event.trained_tokens,
        "peak_memory": event.memory.peak / 1e9,
        "gradient_norm": math.nan if event.gradient_norm is None else event.gradient_norm,
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _installed(name: str) -> Any:
    """Import what a reporter needs.

    Raises:
        ImportError: saying how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{package} is not installed here ({error}); get it with: uv pip install {package}"
        ) from error


def _exit_code(kind: str, event: ev.Ended) -> dict[str, int]:
    return {"exit_code": event.exit_code} if kind == "wandb" else {}


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """Settings without those that are not set, which trackio would show as text."""
    return {key: value for key, value in config.items() if value is not None}
