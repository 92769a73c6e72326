"""Measures the two bars of the data: tokenising 52,000 Alpaca-like rows, and padding.

    uv run python -m tests.bench.data

The rows are made of the real chats in ``tests/data/chat``: their words, and as many of them as rows
of Alpaca have. The tokenizer is SmolLM2's (49,152 tokens). Each case runs in a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHATS = Path(__file__).resolve().parents[1] / "data" / "chat"
ROWS = 52_000
BATCH = 4
MAX_LENGTH = 2048
SHARE_WITH_INPUT = 0.4
"""About what Alpaca has."""


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(_measure(Path(given.child))))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "alpaca.json"
        data.write_text(json.dumps(alpaca_like(given.rows)), encoding="utf-8")
        print("| case | read s | tokens | seconds | CPU s | bytes a token |", flush=True)
        print("|---|---|---|---|---|---|", flush=True)
        for case in ("tokenised", "again, from the cache"):
            print(_line(case, _child(data)), flush=True)
    print("\n| lengths | rows | stock | ours, batch 4 |\n|---|---|---|---|", flush=True)
    for name, lengths in (("tests/data/chat", _chat_lengths()), ("lognormal", _drawn_lengths())):
        ours, stock = _ours_waste(lengths), _stock_waste(lengths)
        print(f"| {name} | {len(lengths):,} | {stock:.1%} | {ours:.1%} |", flush=True)


def alpaca_like(rows: int, seed: int = 0) -> list[dict[str, str]]:
    """Return rows of instruction, input and output as long as Alpaca's, in real words."""
    generator = random.Random(seed)
    chats = (CHATS / "train.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [message for chat in chats for message in json.loads(chat)["messages"]]
    words = [word for message in messages for word in message["content"].split()]

    def said(count: float) -> str:
        start = generator.randrange(len(words) - 500)
        return " ".join(words[start : start + max(1, min(500, round(count)))])

    return [
        {
            "instruction": said(generator.gauss(11, 4)),
            "input": said(generator.gauss(15, 8)) if generator.random() < SHARE_WITH_INPUT else "",
            "output": said(generator.lognormvariate(3.7, 0.9)),
        }
        for _ in range(rows)
    ]


def _child(data: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.data", "--child", str(data)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def _measure(data: Path) -> dict[str, Any]:
    from engine.data.encode import encode
    from engine.data.rows import Features, read_data

    tokenizer = _tokenizer()
    rows, read_seconds, _ = _timed(lambda: read_data(data, Features(), BATCH).train)
    # The tokenizer's threads and tables are there before memory is looked at.
    encode(rows[:1000], tokenizer, mask_prompt=True, max_seq_length=MAX_LENGTH)
    before = _anonymous_bytes()
    cache = data.parent / "cache"
    split, seconds, cpu_seconds = _timed(lambda: encode(rows, tokenizer, True, MAX_LENGTH, cache))
    held = _anonymous_bytes() - before
    file = sum(path.stat().st_size for path in cache.iterdir())
    return {
        "read_seconds": read_seconds,
        "tokens": len(split.tokens),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "held": held / len(split.tokens),
        "file": file / len(split.tokens),
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - start, time.process_time() - cpu


def _anonymous_bytes() -> int:
    """What the process holds that the system cannot read from a file again."""
    gc.collect()
    if sys.platform == "linux":
        import ctypes

        # What was freed goes back to the system first.
        ctypes.CDLL(None).malloc_trim(0)
        for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
            if line.startswith("Anonymous:"):
                return int(line.split()[1]) * 1024
    import psutil

    return psutil.Process().memory_full_info().uss


def _line(case: str, measured: dict[str, Any]) -> str:
    held = f"{max(measured['held'], 0):.2f} held, {measured['file']:.2f} in the mapped file"
    cells = (
        case,
        f"{measured['read_seconds']:.1f}",
        f"{measured['tokens']:,}",
        f"{measured['seconds']:.1f}",
        f"{measured['cpu_seconds']:.1f}",
        held,
    )
    return f"| {' | '.join(cells)} |"


def _tokenizer() -> Any:
    from transformers import AutoTokenizer

    from tests.smollm2.fixture import model_folder

    return AutoTokenizer.from_pretrained(model_folder())


def _chat_lengths() -> Any:
    from engine.data.encode import encode
    from engine.data.rows import Features, read_data

    rows = read_data(CHATS, Features(), BATCH).train
    return encode(rows, _tokenizer(), mask_prompt=False, max_seq_length=MAX_LENGTH).lengths


def _drawn_lengths() -> Any:
    import numpy as np

    drawn = np.random.default_rng(0).lognormal(np.log(300), 0.8, 10_000)
    return np.clip(drawn, 20, MAX_LENGTH).astype(np.int64)


def _ours_waste(lengths: Any) -> float:
    from engine.data.plan import BatchPlan

    epochs = 10 * (len(lengths) // BATCH)
    return BatchPlan.build(lengths, lengths - 1, BATCH, epochs, 0, MAX_LENGTH).padding_waste


def _stock_waste(lengths: Sequence[int]) -> float:
    """mlx-lm 0.32.2's: rows in the order of the file, as its sort by length has no effect."""
    computed = used = 0
    for start in range(0, len(lengths) - BATCH + 1, BATCH):
        batch = [int(length) for length in lengths[start : start + BATCH]]
        computed += BATCH * min(32 * -(-max(batch) // 32), MAX_LENGTH)
        used += sum(length - 1 for length in batch)
    return 1 - used / computed


if __name__ == "__main__":
    main()
