"""macOS system calls through ctypes. A call that is missing or fails gives None, never 0.

Layouts: xnu's bsd/sys/sysctl.h, osfmk/mach/vm_statistics.h, bsd/sys/resource.h; notify.h; the
public headers of IOKit, CoreFoundation and CoreGraphics.
"""

from __future__ import annotations

import ctypes
import struct
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

LIB_SYSTEM = "/usr/lib/libSystem.dylib"
LIB_PROC = "/usr/lib/libproc.dylib"
IO_KIT = "/System/Library/Frameworks/IOKit.framework/IOKit"
CORE_FOUNDATION = "/System/Library/Frameworks/CoreFoundation.framework/CoreFoundation"
CORE_GRAPHICS = "/System/Library/Frameworks/CoreGraphics.framework/CoreGraphics"

_HOST_VM_INFO64 = 4
_VM_WORDS = 38
"""HOST_VM_INFO64_REV1_COUNT; newer systems know more and fill as much as is asked for."""
_VM_WORDS_USED = 36
_VM_LAYOUT = "<4I9Q2I4Q4I"
_RUSAGE_INFO_V4 = 4
_UTF8 = 0x08000100


def load_library(path: str) -> ctypes.CDLL:
    """Open a library by its path.

    Raises:
        OSError: when there is none.
    """
    return ctypes.CDLL(path)


class Library:
    """A library whose absence, or the absence of one of its functions, is no error."""

    def __init__(self, path: str, load: Callable[[str], ctypes.CDLL]) -> None:
        try:
            self._library: ctypes.CDLL | None = load(path)
        except OSError:
            self._library = None

    def function(
        self, name: str, result: type | None, *arguments: type
    ) -> Callable[..., Any] | None:
        """Return a function with its C types set, or None where the library lacks it."""
        found: Any = getattr(self._library, name, None)
        if found is not None:
            found.restype, found.argtypes = result, arguments
        return found


@dataclass(frozen=True, slots=True)
class VmStatistics:
    """The parts of ``vm_statistics64`` that are used here; pages, counters since boot."""

    free: int
    """Speculative pages included."""
    active: int
    inactive: int
    wired: int
    purgeable: int
    external: int
    """Backed by files."""
    compressor: int
    """Physical pages that hold compressed ones."""
    swapins: int
    swapouts: int

    @property
    def uncompressed(self) -> int:
        """All that is neither wired nor compressed: xnu's AVAILABLE_NON_COMPRESSED_MEMORY."""
        return self.free + self.active + self.inactive


class Kernel:
    """sysctl, virtual memory and this process's account."""

    def __init__(self, load: Callable[[str], ctypes.CDLL] = load_library) -> None:
        system, proc = Library(LIB_SYSTEM, load), Library(LIB_PROC, load)
        self._sysctlbyname = system.function(
            "sysctlbyname", c_int, c_char_p, c_void_p, POINTER(c_size_t), c_void_p, c_size_t
        )
        self._host_statistics64 = system.function(
            "host_statistics64", c_int, c_uint32, c_int, c_void_p, POINTER(c_uint32)
        )
        self._rusage = proc.function("proc_pid_rusage", c_int, c_int, c_int, c_void_p)
        # Each call of mach_host_self takes another reference to the port, so it is kept.
        mach_host_self = system.function("mach_host_self", c_uint32)
        self._host: int | None = mach_host_self() if mach_host_self else None

    def sysctl(self, name: str, size: int = 8) -> bytes | None:
        """Return a sysctl's raw value; None if it is unknown or longer than ``size`` bytes."""
        if self._sysctlbyname is None:
            return None
        buffer, length = ctypes.create_string_buffer(size), c_size_t(size)
        if self._sysctlbyname(name.encode(), buffer, byref(length), None, 0) != 0:
            return None
        return buffer.raw[: length.value]

    def integer(self, name: str) -> int | None:
        """Return a sysctl of 4 or 8 bytes; the kernel says which, the name does not."""
        raw = self.sysctl(name)
        if raw is None or len(raw) not in (4, 8):
            return None
        return int.from_bytes(raw, "little")

    def swap_used(self) -> int | None:
        """Return the bytes of swap in use.

        Source: ``vm.swapusage``, struct xsw_usage: total, available, used (u64), page size,
        encrypted (u32).
        """
        raw = self.sysctl("vm.swapusage", 32)
        if raw is None or len(raw) < 24:
            return None
        return struct.unpack_from("<3Q", raw)[2]

    def vm_statistics(self) -> VmStatistics | None:
        """Return the machine's pages.

        Source: ``host_statistics64(HOST_VM_INFO64)``. The kernel answers from a cache when one
        process asks more than a few times a second.
        """
        if self._host_statistics64 is None or self._host is None:
            return None
        buffer, words = ctypes.create_string_buffer(256), c_uint32(_VM_WORDS)
        failed = self._host_statistics64(self._host, _HOST_VM_INFO64, buffer, byref(words))
        if failed or words.value < _VM_WORDS_USED:
            return None
        values = struct.unpack_from(_VM_LAYOUT, buffer)
        return VmStatistics(
            free=values[0],
            active=values[1],
            inactive=values[2],
            wired=values[3],
            purgeable=values[13],
            swapins=values[17],
            swapouts=values[18],
            compressor=values[19],
            external=values[21],
        )

    def footprint(self, pid: int) -> tuple[int, int] | None:
        """Return a process's physical footprint and its highest so far, in bytes.

        Metal buffers and compressed pages count, unlike in the resident size.
        Source: ``proc_pid_rusage(RUSAGE_INFO_V4)``: ri_phys_footprint at 72,
        ri_lifetime_max_phys_footprint at 240 of 296 bytes.
        """
        buffer = ctypes.create_string_buffer(512)
        if self._rusage is None or self._rusage(pid, _RUSAGE_INFO_V4, buffer) != 0:
            return None
        return struct.unpack_from("<Q", buffer, 72)[0], struct.unpack_from("<Q", buffer, 240)[0]


class Notification:
    """The state of one of the system's notify keys, polled."""

    def __init__(self, key: str, load: Callable[[str], ctypes.CDLL] = load_library) -> None:
        system = Library(LIB_SYSTEM, load)
        self._get_state = system.function("notify_get_state", c_uint32, c_int, POINTER(c_uint64))
        self._cancel = system.function("notify_cancel", c_uint32, c_int)
        register = system.function("notify_register_check", c_uint32, c_char_p, POINTER(c_int))
        token = c_int()
        failed = register is None or register(key.encode(), byref(token)) != 0
        self._token = None if failed else token.value

    def state(self) -> int | None:
        """Return the number last published under the key."""
        value = c_uint64()
        if self._token is None or self._get_state is None:
            return None
        return None if self._get_state(self._token, byref(value)) != 0 else value.value

    def close(self) -> None:
        """Give the registration back; afterwards the state is unknown."""
        if self._token is not None and self._cancel is not None:
            self._cancel(self._token)
        self._token = None


class Lid:
    """The lid's switch: IOPMrootDomain's property AppleClamshellState in the IO registry."""

    def __init__(self, load: Callable[[str], ctypes.CDLL] = load_library) -> None:
        kit, core = Library(IO_KIT, load), Library(CORE_FOUNDATION, load)
        self._property = kit.function(
            "IORegistryEntryCreateCFProperty", c_void_p, c_uint32, c_void_p, c_void_p, c_uint32
        )
        self._type = core.function("CFGetTypeID", c_size_t, c_void_p)
        self._boolean_type = core.function("CFBooleanGetTypeID", c_size_t)
        self._boolean = core.function("CFBooleanGetValue", c_bool, c_void_p)
        self._release = core.function("CFRelease", None, c_void_p)
        self._key = self._make_key(core)
        self._domain = self._find_domain(kit)

    def closed(self) -> bool | None:
        """Return whether the lid is closed; None on a machine without one."""
        if not (self._key and self._domain and self._property and self._release):
            return None
        if not (self._type and self._boolean_type and self._boolean):
            return None
        value = self._property(self._domain, self._key, None, 0)
        if not value:
            return None
        # Asking anything but a CFBoolean for its truth would crash.
        is_boolean = self._type(value) == self._boolean_type()
        closed = bool(self._boolean(value)) if is_boolean else None
        self._release(value)
        return closed

    @staticmethod
    def _make_key(core: Library) -> int | None:
        make = core.function("CFStringCreateWithCString", c_void_p, c_void_p, c_char_p, c_uint32)
        return make(None, b"AppleClamshellState", _UTF8) if make else None

    @staticmethod
    def _find_domain(kit: Library) -> int | None:
        matching = kit.function("IOServiceMatching", c_void_p, c_char_p)
        service = kit.function("IOServiceGetMatchingService", c_uint32, c_uint32, c_void_p)
        # The service takes over the dictionary that the matching made.
        return service(0, matching(b"IOPMrootDomain")) if matching and service else None


class Display:
    """The main display, as CoreGraphics sees it."""

    def __init__(self, load: Callable[[str], ctypes.CDLL] = load_library) -> None:
        graphics = Library(CORE_GRAPHICS, load)
        self._main = graphics.function("CGMainDisplayID", c_uint32)
        self._asleep = graphics.function("CGDisplayIsAsleep", c_uint32, c_uint32)

    def awake(self) -> bool | None:
        """Return whether the main display is lit; None where no display is attached."""
        display = self._main() if self._main else 0
        if not display or self._asleep is None:
            return None
        return self._asleep(display) == 0
