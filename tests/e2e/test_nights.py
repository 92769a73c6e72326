"""The short forms of ``tests.e2e.nights``.

The cheapest are always played, within a minute on one core; the others, which open terminals or
begin more than one process each, with ``LORA_TUI_NIGHTS=1``. The long forms, minutes each:
``uv run python -m tests.e2e.nights``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.e2e.ground import SHORT, Ground
from tests.e2e.nights import NIGHTS
from tests.tmux import HAS_TMUX, NEEDS_TMUX

if TYPE_CHECKING:
    from collections.abc import Iterator

# They share the run that nobody disturbs.
pytestmark = pytest.mark.xdist_group("nights")
CHEAP = ("yellow", "numbers", "asleep")
IN_TERMINALS = {"closed", "killed", "attached", "detached"}


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with Ground(tmp_path_factory.mktemp("nights"), SHORT) as made:
        yield made


def played(name: str) -> object:
    skip: list[pytest.MarkDecorator] = []
    if name not in CHEAP:
        asked = "LORA_TUI_NIGHTS" in os.environ
        skip.append(pytest.mark.skipif(not asked, reason="LORA_TUI_NIGHTS=1 asks for it"))
    if name in IN_TERMINALS:
        skip.append(pytest.mark.skipif(not HAS_TMUX, reason=NEEDS_TMUX))
    return pytest.param(name, marks=skip)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", map(played, NIGHTS))
def test_the_morning_tells_the_night(ground: Ground, name: str) -> None:
    NIGHTS[name](ground)


def test_there_are_ten() -> None:
    assert len(NIGHTS) == 10
