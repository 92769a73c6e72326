"""Tries a run's widest step without the run: loaded and measured as it would be, nothing kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from engine import events as ev
from engine import loaded, work
from engine.errors import DownloadNeededError
from engine.eta import PROBED
from engine.hub_client import in_units
from engine.mailbox import Mailbox
from engine.planning import Seconds, evaluations_of
from engine.prepare import eager_on_cpu, eta_of, memory_limits, prepare
from engine.probe import try_widest
from engine.use.worker import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from engine.config import RunConfig
    from engine.eta import EtaEstimator
    from engine.prepare import Prepared

UNITS = 1e6
"""Of a download is told how many megabytes are here."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What the widest step of a run took."""

    probed: ev.Probed
    seconds: Seconds
    """Of the whole run at that speed, evaluations included."""
    lengths: tuple[int, ...]
    """Tokens of every training row."""
    budget_bytes: int
    step: ev.StepMethod
    step_reason: str

    @property
    def fits(self) -> bool:
        """Whether what was measured is within the budget."""
        return self.probed.plan.peak <= self.budget_bytes

    def as_json(self) -> dict[str, Any]:
        """Return it as ``lora-tui plan --probe --json`` prints it."""
        probed = self.probed
        return {
            "rows": probed.rows,
            "width": probed.width,
            "planned": probed.planned,
            "peak": probed.peak,
            "memory": asdict(probed.plan) | {"peak": probed.plan.peak},
            "budget": self.budget_bytes,
            "fits": self.fits,
            "micro_batch": probed.micro_batch,
            "planned_micro_batch": probed.planned_micro_batch,
            "step_seconds": probed.seconds,
            "step": self.step,
            "step_reason": self.step_reason,
            "seconds": asdict(self.seconds),
        }


def rehearse(
    config: RunConfig, should_stop: Callable[[], bool], *, may_download: bool = False
) -> Iterator[Note | Rehearsed]:
    """Load what a run would, try its widest step and say what it took; ``Rehearsed`` comes last.

    Nothing is written but the token cache. All of MLX happens on the iterating thread.

    Args:
        config: the settings.
        should_stop: whether somebody wants it to end; then nothing more is said.
        may_download: whether what is not here is brought from the hub.

    Raises:
        InputError: what a run with these settings would raise.
        DownloadNeededError: when something is to be downloaded, and may not be.
    """
    with closing(_events(config, should_stop)) as events:
        for event in events:
            if should_stop():
                return
            match event:
                case Rehearsed():
                    yield event
                case ev.Progress(stage="download"):
                    yield _downloading(event, may_download=may_download)
                case ev.Progress():
                    yield Note(event.message, done=event.done, total=event.total)
                case ev.Warned():
                    yield Note(event.message, is_warning=True)
                case _:
                    pass


@dataclass
class _Trial:
    """What a probe needs, where nothing is trained."""

    prepared: Prepared
    mailbox: Mailbox
    heed: _Heed
    eta: EtaEstimator
    iteration: int = 0


@dataclass
class _Heed:
    """What a step asks, where no guard gives orders."""

    mailbox: Mailbox
    should_stop: Callable[[], bool]

    def micro_batch(self) -> int:
        return self.mailbox.micro_batch()


def _events(config: RunConfig, should_stop: Callable[[], bool]) -> Generator[ev.Event | Rehearsed]:
    with eager_on_cpu():
        prepared = yield from prepare(config)
        mailbox = Mailbox(prepared.micro_batch)
        trial = _Trial(prepared, mailbox, _Heed(mailbox, should_stop), eta_of(prepared))
        with memory_limits(prepared.budget_bytes, prepared.config.cache_limit_bytes):
            probed: list[ev.Probed] = []
            for event in try_widest(trial):
                yield event
                if isinstance(event, ev.Probed):
                    probed.append(event)
        for event in probed:
            yield _rehearsed(prepared, event)


def _rehearsed(prepared: Prepared, probed: ev.Probed) -> Rehearsed:
    steps = probed.eta_seconds or 0.0
    measuring = evaluations_of(prepared.config) * _evaluation_seconds(prepared, probed)
    return Rehearsed(
        probed,
        Seconds((1 - PROBED) * (steps + measuring), (1 + PROBED) * (steps + measuring)),
        tuple(int(length) for length in prepared.train.lengths),
        prepared.budget_bytes,
        "layers" if prepared.stepper.method == "layers" else "whole-graph",
        prepared.step_reason,
    )


def _evaluation_seconds(prepared: Prepared, probed: ev.Probed) -> float:
    """What an evaluation takes at the speed of the step: it computes less of each position."""
    if prepared.evaluation is None:
        return 0.0
    config = prepared.config
    model = loaded.model_shape(prepared.adapted.model, prepared.files.config)
    rows, width = probed.rows, probed.width
    step = work.step_flops(model, config, rows, width)
    share = work.evaluation_flops(model, rows, width) / step
    positions = config.batch_size * int(prepared.evaluation.width.sum())
    return share * positions * probed.seconds / (rows * width)


def _downloading(event: ev.Progress, *, may_download: bool) -> Note:
    left = event.total - event.done
    if left and not may_download:
        raise DownloadNeededError(
            f"Not everything is on this machine: {event.message} would take {in_units(left)}.", left
        )
    message = f"{event.message}, MB"
    return Note(message, done=round(event.done / UNITS), total=round(event.total / UNITS))
