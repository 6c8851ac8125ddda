"""The memory of this process as the kernel counts it, and ways to return free memory."""

from __future__ import annotations

import ctypes
import gc
import mmap
import re
import sys
from dataclasses import dataclass
from pathlib import Path

_ROLLUP = Path("/proc/self/smaps_rollup")
_MAPS = Path("/proc/self/smaps")
_STATUS = Path("/proc/self/status")
_UNWRITTEN_CODE = re.compile(
    r"^(\w+)-(\w+) r-[x-]p .* /.*(?:\.so|/python)[^/\n]*\n"
    r"(?:\w+: .*\n)*?Rss: +[1-9].*\n(?:\w+: .*\n)*?Anonymous: +0 kB",
    re.MULTILINE,
)
"""Matches a mapping in /proc/self/smaps of a library's code or constants, some of whose pages are resident and none of
which was written.

A page that the dynamic linker relocated counts as anonymous and must stay. QEMU's user-mode emulation writes 0 kB for
everything: its mappings must stay too, and the resident size tells them from the kernel's.
"""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""From glibc's malloc.h."""


@dataclass(frozen=True)
class Memory:
    """Memory in bytes. Mapped files count in `resident` and, shared between processes, in `proportional`."""

    resident: int
    proportional: int
    """Pss: a page that several processes share counts once in the sum over all of them."""
    private: int
    """Bytes that would be free if this process ended."""
    anonymous: int
    """Heap and stacks: backed by no file."""


def read_memory(rollup: Path = _ROLLUP) -> Memory:
    """Read the kernel's figures for this process. Linux only; raises OSError on other systems."""
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup.read_text().splitlines() if line.endswith("kB")}
    return Memory(
        resident=kib["Rss"] << 10,
        proportional=kib["Pss"] << 10,
        private=kib["Private_Clean"] + kib["Private_Dirty"] << 10,
        anonymous=kib["Anonymous"] << 10,
    )


def peak_resident_bytes(status: Path = _STATUS) -> int:
    """The greatest resident memory of this process so far, in bytes."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    if peak:
        return int(peak[1]) << 10
    import resource  # noqa: PLC0415 - Windows has no such module

    # Not under Linux, where it counts the memory of the parent at the fork too.
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_little() -> None:
    """Make glibc's malloc return freed memory. Does nothing under other C libraries.

    Blocks from 1 MB on, such as decoded images, go back at once. Two heaps instead of eight per core keep less of the
    freed rest. docs/memory.md has the figures.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return unreferenced memory to the system, cycles of objects included."""
    gc.collect()
    trim_heap()


def trim_heap() -> None:
    """Return freed heap to the system. glibc would keep it for later; other C libraries return it themselves."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def forget_code() -> None:
    """Unmap the code that has run so far; code that runs again comes back from the page cache. Linux only.

    A server never needs most of the code of its start again. Resident memory and Pss fall; the page cache, and so the
    memory of a control group, does not (docs/decisions/pruned.md).
    """
    if not _MAPS.exists():
        return
    madvise = ctypes.CDLL(None).madvise
    for first, size in unwritten_code(_MAPS.read_text()):
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_DONTNEED)


def unwritten_code(maps: str) -> list[tuple[int, int]]:
    """The text of /proc/self/smaps -> (address, bytes) of every mapping that comes back unchanged from its file."""
    ranges = [(int(start, 16), int(end, 16)) for start, end in _UNWRITTEN_CODE.findall(maps)]
    return [(start, end - start) for start, end in ranges]
