"""The first and the last statement of every thread that touches MLX."""

from __future__ import annotations

import gc
import sys
import threading
import time
from contextlib import suppress
from weakref import WeakSet

_threads: WeakSet[threading.Thread] = WeakSet()


def begin_thread() -> None:
    """Make a thread ready for MLX, before it is imported."""
    from engine.blas import preload_openblas

    _threads.add(threading.current_thread())
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


def threads_ended(seconds: float) -> bool:
    """Wait for every thread that touched MLX; the process must not end before they do.

    Returns:
        Whether all have ended.
    """
    end = time.monotonic() + seconds
    threads = list(_threads)
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
