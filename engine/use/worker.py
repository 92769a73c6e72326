"""Does MLX's work on one thread of its own, and hands what comes of it to who waits."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from engine.errors import LoraTuiError, RunError
from engine.mlx_thread import begin_thread, end_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
END_SECONDS = 60.0
"""How long work that was stopped may take to tidy up."""


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell who waits: what goes on, or a warning."""

    message: str
    is_warning: bool = False
    done: int = 0
    total: int = 0


class Work(Generic[T]):
    """An iterator over what a job on another thread yields; closing it stops the job."""

    def __init__(self, job: Callable[[Callable[[], bool]], Iterator[T]]) -> None:
        """Begin.

        Args:
            job: gets a function that says whether to stop; all that it yields must be plain.
        """
        self._job = job
        self._stop = threading.Event()
        self._items: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="user", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        try:
            while not self._is_over:
                item = self._items.get()
                if not isinstance(item, _End):
                    yield item
                    continue
                self._is_over = True
                if item.error is not None:
                    raise item.error
        finally:
            self.close()

    def close(self) -> None:
        """Stop, and wait until the job has tidied up."""
        self._stop.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        end = _End()
        try:
            begin_thread()
            for item in self._job(self._stop.is_set):
                self._items.put(item)
        except LoraTuiError as error:
            error.__traceback__ = error.__cause__ = error.__context__ = None
            end = _End(error)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: nothing may pass it
            end = _End(RunError(f"{type(error).__name__}: {error}", UNEXPECTED))
        finally:
            end_thread()
            self._items.put(end)


UNEXPECTED = "This is a fault of the program, or of a library. Nothing was changed."
