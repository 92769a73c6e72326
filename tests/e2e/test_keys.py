"""Every key of a dashboard, in a real terminal with a real model in training underneath."""

from __future__ import annotations

import random
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.noise import SAID, WORD, make_site
from tests.e2e.shell import Shell
from tests.tmux import HAS_TMUX, NEEDS_TMUX
from tui.bindings import keys
from tui.zoom import LEAST_STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.e2e.scene import Scene

PATIENCE = 60.0
"""Seconds within which anything happens, also on a machine that is busy otherwise."""
SIZE = (110, 36)
STORM = 60
"""Sizes that the window takes one after the other."""
ENOUGH = LEAST_STEPS + 8
"""Steps of which a part can be looked at."""
PLACES = ("run", "chart", "panes", "pane", "checkpoint", "back", "app")
"""What a dashboard's keys belong to."""


@dataclass(frozen=True)
class Press:
    """Keys, the one of them that is tried, and what the screen shows then."""

    id: str
    """The key's in the table of bindings; empty for what only leads back."""
    keys: str
    """In tmux's names."""
    shown: str
    """A pattern; with ``not`` before it: what the screen shows no more."""

    def do(self, shell: Shell) -> None:
        """Press, and wait for what comes of it."""
        shell.press(*self.keys.split())
        wanted = self.shown.removeprefix("not ")
        is_gone = wanted != self.shown
        shell.wait_until(
            lambda screen: (re.search(wanted, screen) is None) == is_gone,
            PATIENCE,
            f"{self.keys}: no {self.shown!r}",
        )


TRAINING = (
    Press("run.policy", "y", "· abort"),
    Press("", "y", "· watch"),
    Press("", "y", "· protect"),
    Press("run.checkpoint", "c", "1 saved"),
    Press("run.evaluate", "e", r"Validation loss \d\.\d+ at [1-9]"),
    Press("run.sample", "s", r"Sample \(adapter\)"),
    Press("chart.log", "l", "log · by iterations"),
    Press("", "l", "not log · by"),
    Press("chart.axis", "x", "by tokens"),
    Press("", "x", "by hours"),
    Press("", "x", "by iterations"),
    Press("chart.smoother", "+", "average of 200"),
    Press("chart.rougher", "-", "average of 50"),
    Press("chart.rates", "v", "gradient norm"),
    Press("", "v", "not gradient norm"),
    Press("panes.next", "Tab", "▸ memory"),
    Press("panes.previous", "BTab", "▸ loss"),
    Press("panes.open", "Enter", "not ─ memory"),
    Press("back.close", "Escape", "─ memory"),
    Press("", "Tab Tab Tab Tab Tab", "▸ log"),
    Press("pane.up", "Up", r"\d–\d+ of"),
    Press("pane.down", "Down", r"not \d–\d+ of"),
    Press("pane.page_up", "PPage", r"\d–\d+ of"),
    Press("pane.page_down", "NPage", r"not \d–\d+ of"),
    Press("panes.filter", "/", "the log shows only"),
    Press("", "s a v e d Enter", "about saved"),
    Press("", "/", "the log shows only"),
    Press("", "Escape", "not about saved"),
    Press("", "Tab Tab", "▸ loss"),
    Press("app.help", "?", "esc closes"),
    Press("", "?", "not esc closes"),
    Press("app.palette", "C-p", "Search for commands"),
    Press("", "l o g Space s c a l e", "log scale"),
    Press("", "Enter", "log · by iterations"),
    Press("", "l", "not log · by"),
    Press("app.quit", "q", "leave while it trains"),
    Press("", "Escape", "not leave while"),
    Press("app.interrupt", "C-c", "leave while it trains"),
    Press("", "Escape", "not leave while"),
    Press("run.detach", "d", r"train on in the background\?"),
    Press("", "Escape", r"not train on in the background\?"),
)
PAUSED = (
    Press("run.pause", "Space", "‖ paused"),
    Press("", "c", r"Paused at[^\n]*\n[^\n]*Saved at"),
    Press("", "Enter", "not ─ memory"),
    Press("chart.closer", "z", "zoom"),
)
ZOOMED = (
    Press("chart.farther", "Z", "not zoom"),
    Press("", "z", "zoom"),
    Press("chart.whole", "0", "not zoom"),
    Press("", "Escape", "─ memory"),
    Press("run.resume", "Space", "● training"),
)
OVER = (
    Press("run.abort", "a", "stop this run"),
    Press("", "a", "■ stopped"),
    Press("chart.first", "Home", "looking back at 1 ·"),
    Press("chart.step_later", "S-Right", "looking back at 2 ·"),
    Press("chart.step_earlier", "S-Left", "looking back at 1 ·"),
    Press("chart.last", "End", "not looking back at"),
    Press("run.report", "m", "What happened"),
    Press("", "Escape", "not What happened"),
    Press("run.try", "t", r"Ready\."),
    Press("", "Escape", "■ stopped"),
    Press("", "Tab Tab Tab Tab", "▸ checkpoints"),
    Press("checkpoint.open", "Enter", "copy the path"),
    Press("", "Escape", "not copy the path"),
    Press("", "Down", ""),
    Press("checkpoint.compare", "v", "beside another"),
    Press("", "Escape", "not beside another"),
    Press("checkpoint.reveal", "o", "Copied"),
    Press("checkpoint.delete", "DC", "are you sure|delete this checkpoint"),
    Press("", "Escape", "not are you sure|delete this checkpoint"),
    Press("checkpoint.fuse", "f", "╭─ fuse"),
    Press("", "Escape", "not ╭─ fuse"),
    Press("checkpoint.try", "t", r"Ready\."),
    Press("", "Escape", "■ stopped"),
)
HOME = (
    Press("", "Enter", "▸ loss"),
    Press("", "Tab Tab Tab Tab Down", "▸ checkpoints"),
    Press("checkpoint.resume", "r", "● training"),
    Press("", "a", "stop this run"),
    Press("", "a", "■ stopped"),
    Press("", "BTab BTab BTab BTab", "▸ loss"),
    Press("run.continue", "r", "● training"),
)
MOVED = ("chart.earlier", "chart.later", "app.suspend")
"""Keys for which the test itself looks at more than a pattern."""


def test_no_key_of_a_dashboard_is_left_out() -> None:
    presses = (*TRAINING, *PAUSED, *ZOOMED, *OVER, *HOME)
    tried = {press.id for press in presses if press.id} | set(MOVED)
    assert {key.id for key in keys(*PLACES)} == tried


def pan(shell: Shell) -> None:
    """Move a close look there and back; nothing else moves while the run stands still."""
    before = shell.screen
    shell.press("Left")
    shell.wait_until(lambda screen: screen != before, PATIENCE, "the curve did not move")
    shell.press("Right")
    shell.wait_until(lambda screen: screen == before, PATIENCE, "the curve did not come back")


def storm(shell: Shell) -> None:
    """Give the window many sizes, far too small ones too; the last shows everything again."""
    sizes = random.Random(6)
    for _ in range(STORM):
        shell.resize(sizes.randint(20, 200), sizes.randint(5, 60))
    shell.resize(40, 12)
    shell.wait_for("too small: 40×12", PATIENCE)
    shell.resize(*SIZE)
    for words in ("▸ loss", "─ memory", "tok/s", "checkpoints", "? help"):
        shell.wait_for(words, PATIENCE)


def suspend(shell: Shell, run: Path) -> None:
    """Go back to the shell, where nothing is trained meanwhile, and on with it."""
    shell.press("C-z")
    shell.wait_for("fg goes on.", PATIENCE)
    shell.wait_for("Stopped", PATIENCE)
    size = (run / "events.jsonl").stat().st_size
    shell.type("echo $((6 * 7))")
    shell.wait_for("\n42", PATIENCE)
    assert (run / "events.jsonl").stat().st_size == size
    shell.type("fg")
    shell.wait_for("stood still", PATIENCE)
    shell.wait_until(lambda screen: "stood still" not in screen, PATIENCE, "the notice stays")
    shell.wait_for("● training", PATIENCE)
    shell.wait_until(
        lambda _: (run / "events.jsonl").stat().st_size > size, PATIENCE, "it did not go on"
    )


def steps(screen: str) -> int:
    """Read off how many steps were trained."""
    found = re.search(r"([\d,]+) / 1,000,000", screen)
    return int(found[1].replace(",", "")) if found else 0


def press(shell: Shell, presses: Iterable[Press]) -> None:
    for each in presses:
        each.do(shell)


@pytest.mark.skipif(not HAS_TMUX, reason=NEEDS_TMUX)
@pytest.mark.timeout(6 * PATIENCE)
def test_every_key_of_a_run_in_a_terminal_with_noisy_libraries(
    scene: Scene, tmp_path: Path
) -> None:
    config = scene.config(
        "keys", data=str(scene.exchanges), iters=1_000_000, batch_size=1, num_layers=4,
        val_batches=1, steps_per_eval=1_000_000, sample_prompts=["Hi."], sample_max_tokens=4,
        on_hangup="stop",
    )  # fmt: skip
    run = tmp_path / "runs" / "keys"
    site = make_site(tmp_path / "site")
    with Shell(tmp_path, size=SIZE, site=site) as shell:
        shell.forbidden = WORD
        shell.start("run", str(config), "--run-dir", str(run))
        shell.wait_for("tok/s", PATIENCE)
        press(shell, TRAINING)
        storm(shell)
        suspend(shell, run)
        shell.wait_until(lambda screen: steps(screen) >= ENOUGH, 2 * PATIENCE, "it is too slow")
        press(shell, PAUSED)
        pan(shell)
        press(shell, (*ZOOMED, *OVER))
        shell.press("q")
        assert "Saved at" in shell.wait_for_code(0)
        log = (run / "log.txt").read_text(encoding="utf-8")
        assert [words for words in SAID if f"{WORD} {words}" not in log] == []
        # What broke off can be gone on with from home; what cannot save says so, and fails.
        shell.start()
        shell.wait_for("runs on this machine · 1", PATIENCE)
        press(shell, HOME)
        (again,) = (folder for folder in run.parent.iterdir() if folder != run)
        shutil.rmtree(again / "adapters")
        (again / "adapters").write_text("in the way")
        shell.press("c")
        shell.wait_for("✗ failed", PATIENCE)
        shell.press("q")
        shell.wait_for_code(1)
