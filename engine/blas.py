"""Loads a fast BLAS before MLX does, because MLX's Linux CPU wheel links the slow reference one."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib import metadata
from pathlib import Path

_OPENBLAS = (
    ("ngsolve-openblas", "libopenblas", ""),
    ("cmeel-openblas", "libopenblas.so.0", "sve2"),
)
"""A package, its library, and what a processor must have: cmeel's is built for Neoverse N2 alone,
and any other would end the process with an illegal instruction."""
CPU_INFO = Path("/proc/cpuinfo")
_FORTRAN_SONAME = b"libgfortran.so.5"
"""The Fortran runtime that OpenBLAS asks the system for; many machines have none."""


def preload_openblas() -> str | None:
    """Make OpenBLAS's symbols win over the reference BLAS; call it before the first import of mlx.

    Returns:
        The library's path, or None off Linux and where the library is absent or does not load.
    """
    if not sys.platform.startswith("linux"):
        return None
    for package, library, feature in _OPENBLAS:
        for path in _installed(package, library):
            if _has_processor(feature) and _load_with_fortran(path):
                return str(path)
    return None


def _has_processor(feature: str) -> bool:
    """Whether the processor has a feature by its name in Linux's ``/proc/cpuinfo``."""
    return not feature or feature in CPU_INFO.read_text(encoding="utf-8").split()


def _load_with_fortran(path: Path) -> bool:
    if _load_globally(path):
        return True
    _borrow_fortran_runtime()
    return _load_globally(path)


def _load_globally(path: Path) -> bool:
    """Load a library so that libraries loaded later find its symbols first."""
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _borrow_fortran_runtime() -> None:
    """Load the Fortran runtime inside MLX's wheel under the name that OpenBLAS asks for.

    The wheel's copy is called ``libgfortran-<hash>.so.5.0.0``, so the loader does not take it for
    ``libgfortran.so.5``. A copy in memory with the plain name written over the long one does.
    """
    try:
        for helper in _installed("mlx-cpu", "libquadmath"):
            ctypes.CDLL(str(helper))
        for library in _installed("mlx-cpu", "libgfortran"):
            name = library.name.encode()
            renamed = _FORTRAN_SONAME.ljust(len(name), b"\0")
            file = os.memfd_create("libgfortran")
            with os.fdopen(file, "wb") as memory:
                memory.write(library.read_bytes().replace(name + b"\0", renamed + b"\0"))
                memory.flush()
                ctypes.CDLL(f"/proc/self/fd/{file}")
    except (AttributeError, OSError):
        return  # a kernel or libc without memfd: the caller's second try says that it did not work


def _installed(package: str, prefix: str) -> list[Path]:
    """The files of an installed package whose names start with the prefix, without importing it."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        return []
    paths = [Path(str(file.locate())) for file in files if file.name.startswith(prefix)]
    return sorted(path for path in paths if path.is_file())
