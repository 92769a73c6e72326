"""The last words of runs that did not come to their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine import events as ev
from engine.errors import LoraTuiError
from engine.guard import EXIT_CODE

if TYPE_CHECKING:
    from engine.mailbox import Stop
    from engine.runs import RunDirectory


def stopped_while_loading(stop: Stop) -> ev.Ended:
    """Return the last word of a run that was stopped before its first step was ready."""
    return ev.Ended(
        time=time.time(),
        status="aborted" if stop.exit_code == EXIT_CODE else "stopped",
        iteration=0,
        reason=stop.reason,
        exit_code=stop.exit_code,
        hint="Nothing was trained yet. What was downloaded is kept for the next time.",
    )


def as_run_error(error: Exception, directory: RunDirectory) -> LoraTuiError:
    """Put an unexpected error into words; its traceback goes to the run's log."""
    import traceback

    hint = (
        "This is a fault of the program, or of a library. The checkpoints saved before are intact."
    )
    text = "".join(traceback.format_exception(error))
    try:
        with directory.log_file.open("a", encoding="utf-8") as log:
            log.write(text)
        hint += f" Details: {directory.log_file}"
    except OSError:
        hint += f"\n{text}"
    return LoraTuiError(f"{type(error).__name__}: {error}", hint)
