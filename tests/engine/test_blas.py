"""Which OpenBLAS is loaded: one that runs on this processor, or none."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

import pytest

from engine import blas

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="MLX has a fast BLAS elsewhere"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm {}\n"


def test_its_functions_stand_in_for_those_that_mlx_links() -> None:
    path = blas.preload_openblas()
    assert path is not None
    for name in ("cblas_sgemm", "cblas_dgemm"):
        everywhere = ctypes.CDLL(None)[name]
        own = ctypes.CDLL(path)[name]
        address = ctypes.cast(everywhere, ctypes.c_void_p).value
        assert address == ctypes.cast(own, ctypes.c_void_p).value


@pytest.mark.parametrize(("features", "is_loaded"), [("sve sve2", True), ("sve", False)])
def test_one_for_another_processor_is_not_loaded(
    features: str, is_loaded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libopenblas.so.0"
    loaded: list[Path] = []

    def installed(package: str, prefix: str) -> list[Path]:
        assert library.name.startswith(prefix)
        return [library] if package == "cmeel-openblas" else []

    def load(path: Path) -> bool:
        loaded.append(path)
        return True

    cpu_info = tmp_path / "cpuinfo"
    cpu_info.write_text(ARM.format(features), encoding="utf-8")
    monkeypatch.setattr(blas, "CPU_INFO", cpu_info)
    monkeypatch.setattr(blas, "_installed", installed)
    monkeypatch.setattr(blas, "_load_globally", load)
    assert blas.preload_openblas() == (str(library) if is_loaded else None)
    assert loaded == [library] * is_loaded
