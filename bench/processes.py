"""CPU time and memory of the processes of a server, as the kernel of Linux reports them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessMemory:
    """Megabytes (10^6 bytes), from smaps_rollup. `resident` = `private_clean` + `private_dirty` + `shared`."""

    resident: float
    pss: float
    """A page that n processes map counts 1/n in each. The sum over all processes is their memory together."""
    shared: float
    private_clean: float
    """Unchanged pages of files that no other process maps now. The kernel drops them when it needs memory."""
    private_dirty: float
    anonymous: float
    """Pages without a file: heap and stacks."""

    @property
    def private(self) -> float:
        return self.private_clean + self.private_dirty


def family(pid: int) -> list[int]:
    """-> the ids of a process and of all its descendants."""
    children = [int(word) for task in Path(f"/proc/{pid}/task").iterdir() for word in _read(task / "children").split()]
    return [pid, *(one for child in children for one in family(child))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """-> user and system time of these processes, and of their children that have ended."""
    fields = [_read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() for pid in pids]
    return sum(int(ticks) for row in fields for ticks in row[11:15]) / _TICKS


def memory(pid: int) -> ProcessMemory:
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    megabytes = {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines if line.endswith("kB")}
    return ProcessMemory(
        resident=megabytes["Rss"],
        pss=megabytes["Pss"],
        shared=megabytes["Shared_Clean"] + megabytes["Shared_Dirty"],
        private_clean=megabytes["Private_Clean"],
        private_dirty=megabytes["Private_Dirty"],
        anonymous=megabytes["Anonymous"],
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
