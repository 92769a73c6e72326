"""Examines this machine before a run does: what is well, what is not, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.awake import sleep_warning
from engine.blas import preload_openblas
from engine.host import HostSample, open_host
from engine.host.mac_calls import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

Figure = int | float | str | bool | None

SMALL_MEMORY_BYTES = 7_500_000_000
MUCH_SWAP_BYTES = 500_000_000
SMALL_DISK_BYTES = 10_000_000_000
"""A model of 1.5B weights and a night's checkpoints take about so much."""
_TOOL_SECONDS = 5.0
_SOMETHING = "something"
"""Any tool that keeps the machine awake."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    name: str
    value: str
    """In words for a person; "n/a" is what could not be read here."""
    advice: str = ""
    """What to do; empty where all is well."""
    figures: dict[str, Figure] = field(default_factory=dict[str, Figure])
    """The same for a program, with units in the names."""

    @property
    def status(self) -> Literal["ok", "warning"]:
        """Whether there is something to do."""
        return "warning" if self.advice else "ok"


@dataclass(frozen=True, slots=True)
class MlxFacts:
    """What MLX says of itself; an error where it cannot be imported."""

    version: str = ""
    device: Literal["metal", "cuda", "cpu"] = "cpu"
    device_name: str = ""
    working_set_bytes: int | None = None
    """What Metal recommends that one process uses at most."""
    wired_limit_bytes: int | None = None
    """The working set's limit where somebody set it by hand; None is the system's own."""
    blas: str | None = None
    """The fast BLAS on Linux; None where there is none."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class SleepFacts:
    """When the machine goes to sleep by itself, and whether that can be prevented."""

    can_sleep: bool = True
    idle_minutes: int | None = None
    """0 is never; None could not be read."""
    keeper: str | None = None
    """The tool that keeps it awake while it trains; None where none works."""


def examine(folder: Path) -> list[Finding]:
    """Examine this machine.

    Args:
        folder: where runs are written; it need not exist.
    """
    with open_host(folder) as host:
        sample = host.sample()
    return findings(sample, read_mlx(), read_sleep(), sys.platform)


def findings(
    sample: HostSample, mlx: MlxFacts, sleep: SleepFacts, system: str = sys.platform
) -> list[Finding]:
    """Judge what was read."""
    found = [_system(), *_mlx(mlx)]
    if system.startswith("linux") and mlx.device == "cpu" and not mlx.error:
        found.append(_blas(mlx))
    return [*found, *_memory(sample), *_supplies(sample, mlx), _sleep(sleep)]


def read_mlx() -> MlxFacts:
    """Ask MLX for its device; loads the fast BLAS first, as a run does."""
    blas = preload_openblas()
    try:
        import mlx.core as mx
    except ImportError as error:
        return MlxFacts(blas=blas, error=str(error))
    info = mx.device_info()
    working_set = info.get("max_recommended_working_set_size")
    on_gpu = mx.default_device().type == mx.DeviceType.gpu
    gpu = "cuda" if mx.cuda.is_available() else "metal"
    return MlxFacts(
        version=importlib.metadata.version("mlx"),
        device=gpu if on_gpu else "cpu",
        device_name=str(info.get("device_name", "")),
        working_set_bytes=working_set if isinstance(working_set, int) else None,
        wired_limit_bytes=_wired_limit(),
        blas=blas,
    )


def read_sleep(system: str = sys.platform, root: Path = Path("/")) -> SleepFacts:
    """Read when the machine sleeps by itself, and try what a run keeps it awake with."""
    if system == "darwin":
        keeper = "caffeinate" if shutil.which("caffeinate") else None
        return SleepFacts(idle_minutes=idle_minutes(_output("pmset", "-g") or ""), keeper=keeper)
    state = root / "sys/power/state"
    if state.is_file() and not state.read_text(encoding="utf-8").strip():
        return SleepFacts(can_sleep=False)
    # That the program is there does not say that it is allowed to.
    is_allowed = _output("systemd-inhibit", "--what=idle:sleep", "true") is not None
    return SleepFacts(keeper="systemd-inhibit" if is_allowed else None)


def idle_minutes(settings: str) -> int | None:
    """Return the minutes after which an idle Mac sleeps, from what ``pmset -g`` prints.

    0 is never; None where it is not said. The line is like ``sleep  1 (sleep prevented by …)``.
    """
    for line in settings.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "sleep" and words[1].isdigit():
            return int(words[1])
    return None


def _output(*command: str) -> str | None:
    """What a program prints; None where it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_TOOL_SECONDS, check=True, text=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _wired_limit() -> int | None:
    if sys.platform != "darwin":
        return None
    megabytes = Kernel().integer("iogpu.wired_limit_mb")
    return megabytes << 20 if megabytes else None


def _system() -> Finding:
    name = platform.system().replace("Darwin", f"macOS {platform.mac_ver()[0]}")
    cores = os.cpu_count()
    text = f"{name} {platform.machine()}, {cores} cores, Python {platform.python_version()}"
    return Finding("system", text, figures={"system": name, "cores": cores})


def _mlx(mlx: MlxFacts) -> Iterator[Finding]:
    if mlx.error:
        yield Finding(
            "MLX",
            f"cannot be loaded: {mlx.error}",
            "On Linux it needs a back end: uv sync in a clone, or uv tool install '.[cpu]'.",
            {"error": mlx.error},
        )
        return
    yield Finding("chip", mlx.device_name or "n/a", figures={"device_name": mlx.device_name})
    yield Finding(
        "MLX",
        f"{mlx.version}, computes on {_DEVICES[mlx.device]}",
        figures={"version": mlx.version, "device": mlx.device},
    )
    if mlx.device == "metal":
        yield _working_set(mlx)


_DEVICES = {"metal": "the GPU (Metal)", "cuda": "the GPU (CUDA)", "cpu": "the CPU"}


def _working_set(mlx: MlxFacts) -> Finding:
    advice = ""
    if mlx.wired_limit_bytes:
        advice = (
            f"iogpu.wired_limit_mb was set to {mlx.wired_limit_bytes >> 20}: with too much wired, "
            "the machine freezes. Set it back: sudo sysctl iogpu.wired_limit_mb=0"
        )
    return Finding(
        "working set",
        f"{_size(mlx.working_set_bytes)} recommended for one process on the GPU",
        advice,
        {
            "recommended_bytes": mlx.working_set_bytes,
            "wired_limit_bytes": mlx.wired_limit_bytes,
        },
    )


def _blas(mlx: MlxFacts) -> Finding:
    if mlx.blas is None:
        return Finding(
            "BLAS",
            "the slow reference one",
            "Training is many times slower with it. Install OpenBLAS: uv sync in a clone, or "
            "uv tool install '.[cpu]'.",
            {"path": None},
        )
    return Finding("BLAS", "OpenBLAS", figures={"path": mlx.blas})


def _memory(sample: HostSample) -> Iterator[Finding]:
    total, available = sample.memory_total_bytes, sample.available_bytes
    is_small = total is not None and total < SMALL_MEMORY_BYTES
    yield Finding(
        "memory",
        f"{_size(total)}, {_size(available)} available",
        "Choose a small model, such as the preset smollm2." if is_small else "",
        {"total_bytes": total, "available_bytes": available},
    )
    limit = sample.cgroup_limit_bytes
    if limit is not None:
        text = f"{_size(limit)} for this control group, {_size(sample.cgroup_used_bytes)} used"
        figures: dict[str, Figure] = {"limit_bytes": limit, "used_bytes": sample.cgroup_used_bytes}
        yield Finding("memory limit", text, figures=figures)
    yield _pressure(sample)
    swap = sample.swap_used_bytes
    has_much = swap is not None and swap > MUCH_SWAP_BYTES
    yield Finding(
        "swap",
        f"{_size(swap)} in use" if swap else "n/a" if swap is None else "none in use",
        "Close other programs, or restart the machine: swapped memory slows training."
        if has_much
        else "",
        {"used_bytes": swap},
    )


def _pressure(sample: HostSample) -> Finding:
    to_yellow = sample.to_yellow
    text = sample.pressure or "n/a"
    if sample.pressure == "green" and to_yellow is not None:
        text = f"green, {100 * to_yellow:.0f} % of the way to yellow left"
    is_short = sample.pressure in ("yellow", "red")
    return Finding(
        "pressure",
        text,
        "Close other programs before you train." if is_short else "",
        {"pressure": sample.pressure, "to_yellow": to_yellow},
    )


def _supplies(sample: HostSample, mlx: MlxFacts) -> Iterator[Finding]:
    """Disk, heat, power and display."""
    free = sample.disk_free_bytes
    is_full = free is not None and free < SMALL_DISK_BYTES
    yield Finding(
        "disk",
        f"{_size(free)} free",
        "Free some space: models and checkpoints take gigabytes." if is_full else "",
        {"free_bytes": free},
    )
    is_hot = sample.thermal not in (None, "nominal")
    yield Finding(
        "heat",
        sample.thermal or "n/a",
        "It slows down already. Let it cool, and give it air." if is_hot else "",
        {"thermal": sample.thermal},
    )
    yield _power(sample)
    if mlx.device == "metal" and sample.display_awake:
        advice = "Let it sleep while it trains: macOS may end long GPU steps to keep it smooth."
        yield Finding("display", "lit", advice, {"awake": True})


def _power(sample: HostSample) -> Finding:
    charge = "" if sample.battery_percent is None else f", {sample.battery_percent:.0f} %"
    text = "n/a" if sample.on_battery is None else "battery" if sample.on_battery else "mains"
    return Finding(
        "power",
        f"{text}{charge}",
        sleep_warning(sample.on_battery, sample.lid_closed, _SOMETHING),
        {
            "on_battery": sample.on_battery,
            "battery_percent": sample.battery_percent,
            "lid_closed": sample.lid_closed,
        },
    )


def _sleep(sleep: SleepFacts) -> Finding:
    figures: dict[str, Figure] = {
        "can_sleep": sleep.can_sleep,
        "idle_minutes": sleep.idle_minutes,
        "keeper": sleep.keeper,
    }
    if not sleep.can_sleep:
        return Finding("sleep", "this machine does not sleep", figures=figures)
    if sleep.idle_minutes == 0:
        return Finding("sleep", "never by itself", figures=figures)
    when = "when idle" if sleep.idle_minutes is None else f"after {sleep.idle_minutes} min idle"
    if sleep.keeper is None:
        return Finding("sleep", when, sleep_warning(None, None, None), figures)
    return Finding("sleep", f"{when}, but not while it trains ({sleep.keeper})", figures=figures)


def _size(count: int | None) -> str:
    return "n/a" if count is None else f"{count / 1e9:.1f} GB"
