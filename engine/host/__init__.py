"""Samples the machine: memory pressure, swap, footprint, heat, power. No root, no subprocess."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from engine.host.linux import LinuxHost
from engine.host.macos import MacHost
from engine.host.sample import HostSample, Thermal
from engine.host.sampler import Clocks, HostSampler

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Clocks", "HostSample", "HostSampler", "Thermal", "open_host"]


def open_host(folder: Path) -> HostSampler:
    """Return a sampler of this machine that also watches the disk under a folder.

    On a system that is neither macOS nor Linux every sample holds only times.
    """
    if sys.platform == "darwin":
        mac = MacHost(folder)
        return HostSampler(mac.read, close=mac.close)
    if sys.platform == "linux":
        return HostSampler(LinuxHost(folder).read)
    return HostSampler(lambda time: HostSample(time=time))
