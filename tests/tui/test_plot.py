"""Plotext comes without its manual, but comes."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from tui import plot

if TYPE_CHECKING:
    import pytest


def test_plotext_draws_without_its_manual() -> None:
    lines = (
        "import sys",
        "from tui.plot import Plotter",
        "Plotter()",
        "print([name for name in sys.modules if name.startswith('plotext._doc.')])",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "['plotext._doc.doc']\n"


def test_a_plotext_that_wants_its_manual_is_imported_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    manual, whole = "plotext._doc.doc", ModuleType("plotext")
    had_manual: list[bool] = []

    def import_module(_name: str) -> ModuleType:
        had_manual.append(manual not in sys.modules)
        if not had_manual[-1]:
            raise ImportError("cannot import name 'pages'")
        return whole

    # Put back afterwards, whatever was there.
    for name in ("plotext", manual):
        monkeypatch.setitem(sys.modules, name, whole)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(plot, "import_module", import_module)
    assert plot.load_library() is whole
    assert had_manual == [False, True]
