"""A world for home's screens: runs and presets, a planner by a simple rule, and what was asked."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import RunBusyError
from tests.tui.scripted import GB, START
from tui.controls import Bench, Doors, HomeData, PresetLine, RunLine
from tui.draft import SETTINGS, Draft, Fitting, Outlook
from tui.fuse import FuseScreen
from tui.records import CheckpointFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.screen import Screen

    from tui.controls import RunControls

DAY = 86_400.0
FALLING = tuple(2.4 * 0.92**n + 0.9 + (0.15 if n % 5 == 0 else 0.0) for n in range(32))
PRESETS = (
    PresetLine(
        "demo", "Learn a tea shop's answers in about a minute: tiny model and data included, "
        "no network.", "fits: 95 MB of 5.6 GB, about 40–60 s", "fits, 40–60 s", True,
    ),
    PresetLine(
        "longer", "As maximum, with rows of up to 3,072 tokens: for long conversations, and a Mac "
        "with more than 8 GB.", "too large by 499 MB; try maximum", "too large", False,
    ),
    PresetLine(
        "maximum", "Qwen2.5-1.5B-Instruct on an 8 GB Mac: rank 32 on every projection, 2,048 "
        "tokens, 128 rows an update.", "fits: 5.13 of 5.6 GB, about 4–7 d", "fits, 4–7 d", True,
    ),
)  # fmt: skip
RUNS = (
    RunLine(
        "maximum", "/runs/a", "training", 9450, 15_000, 1.291, 9000, START - 60, FALLING[:20],
        "Qwen2.5-1.5B-Instruct", "guanaco-llama2-1k",
    ),
    RunLine(
        "demo", "/runs/b", "completed", 125, 125, 0.412, 125, START - 4000, FALLING,
        "demo/model", "demo/data",
    ),
    RunLine(
        "maximum", "/runs/c", "interrupted", 4510, 15_000, 1.402, 4500, START - 2 * DAY,
        FALLING[:10], "Qwen2.5-1.5B-Instruct", "guanaco-llama2-1k",
    ),
    RunLine(
        "a-name-that-somebody-made-much-too-long", "/runs/d", "failed", 12, 1000, None, None,
        START - 40 * DAY, (2.5, float("nan"), 2.25), "SmolLM2-135M", "notes",
    ),
)  # fmt: skip
HOME = HomeData(PRESETS, RUNS, "macOS 15.1 arm64 · 8 cores · 8.59 GB memory · 91.2 GB free")
FIRST = replace(HOME, runs=())


class FakePlanner:
    """Plans by one rule: a gigabyte a row at once, of a budget of 5.6."""

    def __init__(self) -> None:
        self.looked: list[Draft] = []
        self.can_answer = threading.Event()
        self.can_answer.set()

    def begin(self, preset: str) -> Draft:
        """Begin with figures of the preset maximum."""
        values = ("Qwen/Qwen2.5-1.5B-Instruct", "mlabonne/guanaco-llama2-1k", "15000", "4", "",
                  "32", "2048", "32", "0.0002")  # fmt: skip
        return Draft(preset, dict(zip((s.key for s in SETTINGS), values, strict=True)))

    def look(self, draft: Draft) -> Outlook:
        """Say what would come of it."""
        assert threading.current_thread() is not threading.main_thread()
        assert self.can_answer.wait(10)
        self.looked.append(draft)
        problems: dict[str, str] = {}
        if not draft.values["batch_size"].isdigit():
            problems["batch_size"] = "should be a number"
        if "nowhere" in draft.values["model"]:
            problems["model"] = "There is no model folder ./nowhere, and none of a name like it."
        if problems:
            return Outlook(problems)
        rows = int(draft.values["micro_batch_size"] or 1)
        peak, budget = round((4.13 + rows) * GB), round(5.6 * GB)
        fits = peak <= budget
        return Outlook(
            verdict=f"fits: {peak / GB:.2f} of 5.60 GB" if fits else "too large by 2.53 GB",
            fits=fits,
            peak_bytes=peak,
            budget_bytes=budget,
            parts=(("base weights", 3_090_000_000), ("adapters", 148_000_000),
                   ("gradients", 148_000_000), ("optimiser", 295_000_000),
                   ("activations", rows * GB), ("logits", 300_000_000)),
            facts=(("time", "about 4–7 d"), ("work", f"{draft.values['iters']} iterations"),
                   ("step", f"{draft.values['batch_size']} rows, {rows} at a time"),
                   ("trains", "36,929,536 of 1,543,714,304 parameters, 148 MB a checkpoint")),
            notes=("Downloaded first: the model and the data, whose rows are counted then.",),
        )  # fmt: skip

    def fit(self, draft: Draft) -> Fitting:
        """Take one row at once."""
        words = f"micro_batch_size {draft.values['micro_batch_size']} → 1: the same result"
        return Fitting(replace(draft.changed("micro_batch_size", "1"), more={"step": "layers"}),
                       (words,))  # fmt: skip


class FakeRecords:
    """A disk that remembers what was deleted."""

    def __init__(self) -> None:
        self.deleted: list[tuple[str, int] | str] = []
        self.is_busy = False

    def checkpoint(self, path: str, iteration: int) -> CheckpointFacts | None:
        """Know all but what is damaged."""
        if iteration == 666:
            return None
        settings = tuple((s.label, f"{s.label} of {path[-8:]}") for s in SETTINGS)
        return CheckpointFacts(iteration, 1.3, iteration * 3840, settings)

    def delete_checkpoint(self, path: str, iteration: int) -> None:
        """Note it."""
        self._refuse()
        self.deleted.append((path, iteration))

    def run_bytes(self, path: str) -> int:  # noqa: ARG002
        """Take a fixed size."""
        return 1_250_000_000

    def delete_run(self, path: str) -> int:
        """Note it."""
        self._refuse()
        self.deleted.append(path)
        return 1_250_000_000

    def _refuse(self) -> None:
        if self.is_busy:
            raise RunBusyError("c is being trained by process 7.", "Stop that one first.")


def unexpected(*_: object) -> RunControls:
    """Stand in for a door that must stay shut."""
    raise AssertionError


class World:
    """Doors that note who goes through them."""

    def __init__(self, home: HomeData = HOME) -> None:
        self.home = home
        self.planner = FakePlanner()
        self.records = FakeRecords()
        self.looks = 0
        self.measured = 0
        self.drafts: list[Draft] = []
        self.resumed: list[str] = []
        self.start_preset: Callable[[str], RunControls] = unexpected
        self.open_run: Callable[[str], RunControls] = unexpected
        self.next_run: RunControls | None = None

    def look(self) -> HomeData:
        """Look at home as it is now."""
        assert threading.current_thread() is not threading.main_thread()
        self.looks += 1
        return self.home

    def doors(self) -> Doors:
        """Everything that home can do."""
        return Doors(
            start_preset=lambda name: self.start_preset(name),
            open_run=lambda path: self.open_run(path),
            resume_run=self._resume,
            start_draft=self._start,
            planner=self.planner,
            look=self.look,
            measure=self._measure,
            records=self.records,
        )

    def bench(self, fuse: Callable[[str, int], Screen[Any]] = FuseScreen) -> Bench:
        """What can be done with checkpoints."""
        return Bench(self.records, fuse)

    def _resume(self, path: str) -> RunControls:
        self.resumed.append(path)
        assert self.next_run is not None
        return self.next_run

    def _start(self, draft: Draft) -> RunControls:
        self.drafts.append(draft)
        assert self.next_run is not None
        return self.next_run

    def _measure(self) -> None:
        self.measured += 1
        self.home = replace(self.home, is_measured=True)
