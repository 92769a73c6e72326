"""Measures every bar of the step on a GPU, and prints the table that ``RESULTS.md`` keeps.

    uv run python -m tests.bench.bars

The bars stand for a base Mac: small command buffers, and attention that is not fused in training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

BASE_MAC = {"MLX_MAX_OPS_PER_BUFFER": "40", "MLX_MAX_MB_PER_BUFFER": "40"}
TIGHT = "--unfused --micro 1 --chunk 512 --score-mb 64"
OURS_FREE = "--micro 4 --chunk 1024 --kept-gb 14"


@dataclass(frozen=True)
class Row:
    """One line of the table: a measurement, and the other it is compared with."""

    title: str
    options: str
    peak_bar: float = 0.0
    """GB; 0 means none."""
    against: str = ""
    """Whom to compare the speed with."""
    is_base_mac: bool = True


ROWS = (
    Row(
        "1.5B, 4 × 2,048, limit 5.2 GB",
        f"--limit 5.2 {TIGHT} --stop",
        5.2,
        "stock,stock-checkpoint",
    ),
    Row("1.5B, 8 × 2,048, limit 5.2 GB", f"--batch 8 --limit 5.2 {TIGHT}", 5.3),
    Row("1.5B, 4 × 4,096, limit 5.2 GB", f"--length 4096 --limit 5.2 {TIGHT}", 5.7),
    Row("1.5B 4-bit, 4 × 2,048, limit 2.9 GB", f"--bits 4 --limit 2.9 {TIGHT}", 2.95),
    Row("1.5B, 4 × 2,048, no limit", OURS_FREE, 0.0, "stock,stock-checkpoint", is_base_mac=False),
)


def main() -> None:
    """Measure and print, a row as soon as it is known."""
    print("| case | who | peak GB | bar | tokens/s | × stock | stop, share of a step |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for row in ROWS:
        ours = _measure("ours", row)
        _show(row, ours, row.peak_bar)
        for who in filter(None, row.against.split(",")):
            other = _measure(who, row)
            ratio = ours.get("tokens_per_second", 0.0) / other.get("tokens_per_second", 1.0)
            _show(row, other, 0.0, ratio)


def _measure(who: str, row: Row) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.step", "--json", "--who", who]
    done = subprocess.run(
        [*command, "--shape", "qwen2.5-1.5b", *row.options.split()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | (BASE_MAC if row.is_base_mac else {}),
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {"who": who, "error": done.stderr[-300:]}


def _show(row: Row, measured: dict[str, Any], bar: float, ratio: float = 0.0) -> None:
    if "error" in measured:
        print(
            f"| {row.title} | {measured['who']} | failed: {measured['error'][-120:]!r} |||||",
            flush=True,
        )
        return
    stop = measured.get("stop_share")
    cells = (
        row.title,
        measured["who"],
        f"{measured['peak'] / 1e9:.2f}",
        f"≤ {bar:g}" if bar else "",
        f"{measured['tokens_per_second']:,.0f}",
        f"ours {ratio:.2f} ×" if ratio else "",
        f"{100 * stop:.1f} %" if stop else "",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
