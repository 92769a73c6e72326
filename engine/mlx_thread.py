"""The first and the last statement of every thread that touches MLX."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress


def begin_thread() -> None:
    """Make a thread ready for MLX, before it is imported."""
    from engine.blas import preload_openblas

    preload_openblas()


def end_thread() -> None:
    """Give back what MLX holds for a thread: its last statement."""
    # Models hang in cycles, and an idle screen may not collect them for hours.
    gc.collect()
    if mx := sys.modules.get("mlx.core"):
        with suppress(RuntimeError):
            mx.clear_cache()
        # Otherwise compiled streams outlive the thread and abort the process at its exit.
        mx.clear_streams()
