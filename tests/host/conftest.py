"""What the host tests share: the macOS stand-in library and trees of recorded Linux files."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_SOURCE = Path(__file__).with_name("mac_standin.c")
_SCRIPTS = {
    "script_reset": (),
    "script_sysctl": (c_char_p, c_void_p, c_size_t),
    "script_pages": (c_uint32,) * 8,
    "script_swaps": (c_uint64, c_uint64),
    "script_vm_answer": (c_int, c_uint32),
    "script_footprint": (c_int, c_uint64, c_uint64),
    "script_thermal": (c_uint32, c_uint32, c_uint64),
    "script_lid": (c_int,),
    "script_display": (c_uint32, c_uint32),
}


class MacScript:
    """A Mac made of scripted answers; ``load`` opens it in place of any macOS library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        for name, arguments in _SCRIPTS.items():
            function = getattr(self.library, name)
            function.argtypes, function.restype = arguments, None
        self.library.script_reset()

    def load(self, _path: str) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.path))

    def sysctl(self, name: str, value: int | bytes, size: int = 4) -> None:
        raw = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        self.library.script_sysctl(name.encode(), raw, len(raw))

    def swap(self, total: float, used: float) -> None:
        """Script vm.swapusage in MiB, with its odd order: total, available, used."""
        sizes = [int(mib * 2**20) for mib in (total, total - used, used)]
        words = b"".join(size.to_bytes(8, "little") for size in sizes)
        self.sysctl("vm.swapusage", words + (16384).to_bytes(4, "little") + b"\1\0\0\0")

    def pages(
        self,
        *,
        free: int,
        active: int,
        inactive: int,
        wired: int,
        compressor: int,
        speculative: int = 0,
        external: int = 0,
        purgeable: int = 0,
    ) -> None:
        self.library.script_pages(
            free, active, inactive, speculative, wired, compressor, external, purgeable
        )

    def swaps(self, read: int, written: int) -> None:
        self.library.script_swaps(read, written)

    def vm_answer(self, result: int = 0, words: int = 40) -> None:
        self.library.script_vm_answer(result, words)

    def footprint(self, now: int, peak: int, result: int = 0) -> None:
        self.library.script_footprint(result, now, peak)

    def thermal(self, state: int, *, registering: int = 0, reading: int = 0) -> None:
        self.library.script_thermal(registering, reading, state)

    def lid(self, state: int) -> None:
        self.library.script_lid(state)

    def display(self, number: int, *, asleep: bool) -> None:
        self.library.script_display(number, int(asleep))

    def count(self, what: str) -> int:
        return getattr(self.library, f"count_{what}")()


@pytest.fixture(scope="session")
def mac_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the macOS stand-in with")
    path = tmp_path_factory.mktemp("mac") / "libmacstandin.so"
    flags = ["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-fno-builtin"]
    subprocess.run([compiler, *flags, "-o", str(path), str(_SOURCE)], check=True)
    return path


@pytest.fixture
def mac(mac_library: Path) -> MacScript:
    """A quiet 8 GB Mac with everything readable; tests script what differs."""
    script = MacScript(mac_library)
    script.sysctl("hw.memsize", 8 * 2**30, 8)
    script.sysctl("vm.pagesize", 16384)
    script.sysctl("kern.memorystatus_vm_pressure_level", 1)
    script.swap(total=0, used=0)
    script.pages(
        free=50000, active=150000, inactive=100000, wired=80000, compressor=0, external=60000
    )
    script.footprint(3_000_000_000, 3_500_000_000)
    script.lid(0)
    script.display(1, asleep=False)
    return script


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Write files below a fresh root, which then stands for ``/``; more calls add to it."""

    def write(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path / "root"

    (tmp_path / "root").mkdir()
    return write
