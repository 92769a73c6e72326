"""Real memory pressure: beside a program that eats memory, a guarded run survives.

Both runs live in a control group with a limit; the kernel ends whoever goes beyond it. What each
came to is printed: ``pytest -s tests/e2e/test_pressure.py``.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlx.core as mx
import pytest
import yaml

from engine.runs import RunDirectory
from tests.cli.program import PATIENCE, run
from tests.e2e.pressure import Episode, MemoryGroup, NoGroupError, beside_an_eater, memory_group
from tests.tiny import chat_row, make_tiny_model, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
}
"""A model that is small beside what its step holds, as on a machine that is too small."""
GUARD = {"yellow_seconds": 1, "grace_seconds": 2, "green_seconds": 3}
"""Quicker than overnight."""
KILLED, TERMINATED = -9, 143

pytestmark = pytest.mark.skipif(
    "LORA_TUI_PRESSURE" not in os.environ,
    reason="takes minutes and eats memory; LORA_TUI_PRESSURE=1 asks for it",
)


@dataclass(frozen=True)
class Workbench:
    """A configuration, and folders for its runs."""

    folder: Path
    config: Path
    group: MemoryGroup

    def train(self, policy: str) -> Episode:
        """Train beside an eater under one of the guard's policies, in a run of that name."""
        command = [
            sys.executable, "-m", "tui", "run", str(self.config), "--json",
            "--run-dir", str(self.run(policy).path), "--set", f"on_pressure={policy}",
        ]  # fmt: skip
        return beside_an_eater(self.group, command, self.folder / "home")

    def run(self, name: str) -> RunDirectory:
        return RunDirectory(self.folder / name)


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        with memory_group() as made:
            yield made
    except NoGroupError as error:
        pytest.skip(f"no memory limit can be set here: {error}")


@pytest.fixture
def workbench(tmp_path: Path, group: MemoryGroup) -> Workbench:
    rows = [chat_row("What do you know?", "A town. " * 90) for _ in range(16)]
    write_rows(tmp_path / "data/train.jsonl", rows)
    values = {
        "model": str(make_tiny_model(tmp_path / "model", **SIZES)),
        "data": str(tmp_path / "data"),
        "iters": 5000,
        "batch_size": 4,
        "learning_rate": 1e-4,
        "num_layers": -1,
        "save_every": 5000,
        "max_seq_length": 512,
        "memory_budget_bytes": 4_000_000_000,
        "lora_parameters": {"rank": 4, "scale": 10.0, "dropout": 0.0},
    } | GUARD
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    return Workbench(tmp_path, config, group)


def adapters(run: RunDirectory) -> dict[str, mx.array]:
    loaded = mx.load(str(run.adapters / "adapters.safetensors"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.timeout(3 * PATIENCE)
def test_a_run_that_only_watches_is_killed_or_crawls(workbench: Workbench) -> None:
    episode = workbench.train("watch")
    print(
        f"\nwatching: {episode.limit_bytes / 1e6:.0f} MB, exit code {episode.exit_code} "
        f"{episode.eater_seconds:.0f} s after the eater came, at iteration "
        f"{max(episode.micro_batches)}; slowest step {episode.slowest_step_seconds:.1f} s, before "
        f"{episode.calm_step_seconds:.2f}"
    )
    slowness = episode.slowest_step_seconds / episode.calm_step_seconds
    assert episode.exit_code == KILLED or slowness > 10


@pytest.mark.timeout(4 * PATIENCE)
def test_a_guarded_run_shrinks_pauses_goes_on_and_learns_the_same(workbench: Workbench) -> None:
    episode = workbench.train("protect")
    actions, rows = episode.guard_actions, episode.micro_batches
    reactions = episode.reaction_seconds()
    print(
        f"\nprotected: {episode.limit_bytes / 1e6:.0f} MB, {actions}, "
        f"paused {episode.eater_seconds:.0f} s after the eater came, "
        f"exit code {episode.exit_code} at iteration {max(rows)}; "
        f"done {max(reactions):.2f} s after the sample at the latest; step "
        f"{episode.calm_step_seconds:.2f} s before"
    )
    # Everything that only saves time, then rows, then the pause; by itself out of it again.
    assert actions == ["shrink", "shrink", "shrink", "pause", "resume"]
    assert (min(rows.values()), max(rows.values())) == (1, 4)
    assert max(reactions) < 2
    assert episode.exit_code == TERMINATED
    undisturbed = workbench.run("undisturbed")
    in_order = ",".join(str(rows[iteration]) for iteration in sorted(rows))
    done = run(
        str(workbench.config),
        str(undisturbed.path),
        in_order,
        home=workbench.folder / "home",
        module="tests.e2e.replay",
    )
    assert done.code == 0, done.err
    ours, theirs = adapters(workbench.run("protect")), adapters(undisturbed)
    assert ours.keys() == theirs.keys()
    assert max(float(mx.abs(ours[name] - theirs[name]).max()) for name in ours) < 1e-5
