"""The thresholds of engine/host/pressure.py, as tables."""

from __future__ import annotations

import itertools

import pytest

from engine.host.pressure import (
    Room,
    linux_pressure,
    linux_to_yellow,
    mac_pressure,
    mac_to_yellow,
)
from tests.host.near import near

GIB = 2**30
MIB = 2**20


@pytest.mark.parametrize(
    ("level", "colour"),
    [(1, "green"), (2, "yellow"), (4, "red"), (0, None), (3, None), (None, None)],
)
def test_mac_levels(level: int | None, colour: str | None) -> None:
    assert mac_pressure(level) == colour


@pytest.mark.parametrize(
    ("uncompressed", "compressor", "share"),
    [(100, 0, 1.0), (75, 25, 0.5), (51, 49, 0.02), (50, 50, 0.0), (10, 90, 0.0), (0, 0, None)],
)
def test_mac_way_to_yellow(uncompressed: int, compressor: int, share: float | None) -> None:
    expected = None if share is None else near(share)
    assert mac_to_yellow("green", uncompressed, compressor) == expected
    assert mac_to_yellow(None, uncompressed, compressor) == expected
    assert mac_to_yellow("yellow", uncompressed, compressor) == 0.0
    assert mac_to_yellow("red", uncompressed, compressor) == 0.0


@pytest.mark.parametrize(
    ("some", "full", "limit", "left", "colour"),
    [
        # PSI some: a second in ten.
        (0.0, 0.0, 8 * GIB, 6 * GIB, "green"),
        (9.99, 0.0, 8 * GIB, 6 * GIB, "green"),
        (10.0, 0.0, 8 * GIB, 6 * GIB, "yellow"),
        (95.0, 19.9, 8 * GIB, 6 * GIB, "yellow"),
        # PSI full: a fifth of the time.
        (95.0, 20.0, 8 * GIB, 6 * GIB, "red"),
        # Room in a small limit: 10 % and 4 %.
        (0.0, 0.0, 1 * GIB, 103 * MIB, "green"),
        (0.0, 0.0, 1 * GIB, 102 * MIB, "yellow"),
        (0.0, 0.0, 1 * GIB, 41 * MIB, "yellow"),
        (0.0, 0.0, 1 * GIB, 40 * MIB, "red"),
        (0.0, 0.0, 1 * GIB, 0, "red"),
        # Room in a large one: 1 GiB and 400 MiB.
        (0.0, 0.0, 512 * GIB, 1025 * MIB, "green"),
        (0.0, 0.0, 512 * GIB, 1024 * MIB, "yellow"),
        (0.0, 0.0, 512 * GIB, 400 * MIB, "red"),
        # A kernel without PSI.
        (None, None, 8 * GIB, 6 * GIB, "green"),
        (None, None, 8 * GIB, 300 * MIB, "red"),
    ],
)
def test_linux_grades(
    some: float | None, full: float | None, limit: int, left: int, colour: str
) -> None:
    rooms = [Room(limit, limit - left)]
    assert linux_pressure(some, full, rooms) == colour
    assert linux_pressure(some, full, [Room(64 * GIB, 0), *rooms]) == colour


def test_linux_knows_nothing_without_psi_and_rooms() -> None:
    assert linux_pressure(None, None, []) is None
    assert linux_to_yellow(None, None, []) is None


def test_linux_psi_alone_is_enough() -> None:
    assert linux_pressure(12.0, 1.0, []) == "yellow"
    assert linux_to_yellow(2.5, 0.0, []) == 0.75
    assert linux_to_yellow(None, 0.0, []) == 1.0


def test_linux_way_is_that_of_the_nearest_threshold() -> None:
    wide, narrow = Room(8 * GIB, 1 * GIB), Room(1 * GIB, GIB // 2)
    assert linux_to_yellow(0.0, 0.0, [wide]) == near((7 - 0.8) / (8 - 0.8))
    assert linux_to_yellow(0.0, 0.0, [wide, narrow]) == near((0.5 - 0.1) / 0.9)
    assert linux_to_yellow(8.0, 0.0, [wide, narrow]) == near(0.2)


def test_something_is_left_exactly_while_it_is_green() -> None:
    for some, full, used in itertools.product(range(0, 21, 5), range(0, 30, 10), range(101)):
        rooms = [Room(100 * MIB, used * MIB)]
        way = linux_to_yellow(some, full, rooms)
        assert way is not None
        assert 0 <= way <= 1
        assert (way > 0) == (linux_pressure(some, full, rooms) == "green")


def test_a_group_above_its_limit_has_nothing_left() -> None:
    assert Room(10, 12).left == 0
    assert linux_to_yellow(0.0, 0.0, [Room(10, 12)]) == 0.0
