"""What this process's memory costs, as the kernel counts it, and giving back what is free."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path

_ROLLUP = Path("/proc/self/smaps_rollup")


@dataclass(frozen=True)
class Memory:
    """Bytes. Mapped files count in `resident`, in `proportional` by the share of their users, not in `anonymous`."""

    resident: int
    proportional: int
    """Pss: what all processes' sum is, when pages that several of them share are counted once."""
    private: int
    """Would be free if this process ended."""
    anonymous: int
    """Backed by no file: heap and stacks."""


def read_memory(rollup: Path = _ROLLUP) -> Memory:
    """Read the kernel's own account; Linux only. Raises OSError elsewhere."""
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup.read_text().splitlines() if line.endswith("kB")}
    return Memory(
        resident=kib["Rss"] << 10,
        proportional=kib["Pss"] << 10,
        private=kib["Private_Clean"] + kib["Private_Dirty"] << 10,
        anonymous=kib["Anonymous"] << 10,
    )


def give_back() -> None:
    """Return freed heap to the system. glibc keeps it for later otherwise; other C libraries return it themselves."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
