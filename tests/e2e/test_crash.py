"""The short form of ``tests.e2e.crash``: a few runs killed at random moments, and resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.crash import Yard, kill_some, signal_some

if TYPE_CHECKING:
    from pathlib import Path

KILLS, LATE = 12, 3


@pytest.mark.timeout(360)
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path: Path) -> None:
    yard = Yard(tmp_path)
    killed = kill_some(yard, KILLS)
    assert killed.different == []
    assert killed.identical == KILLS
    assert killed.interrupted > 0
    killed = kill_some(yard, LATE, is_late=True)
    assert (killed.different, killed.identical) == ([], LATE)
    signalled = signal_some(yard, 1, "SIGTERM")
    assert (signalled.different, signalled.identical) == ([], 1)
