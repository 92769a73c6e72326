"""No process may end before the threads that touched MLX: it would abort."""

from __future__ import annotations

import threading

from engine.mlx_thread import begin_thread, end_thread, threads_ended

PATIENCE = 30.0


def test_a_thread_that_works_is_waited_for() -> None:
    may_end, has_begun = threading.Event(), threading.Event()

    def work() -> None:
        begin_thread()
        has_begun.set()
        may_end.wait(PATIENCE)
        end_thread()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert has_begun.wait(PATIENCE)
    assert not threads_ended(0.01)
    may_end.set()
    assert threads_ended(PATIENCE)
    assert not thread.is_alive()
