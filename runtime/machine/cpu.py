"""CPUs and memory that this process may use. No other module imports psutil.

onnxruntime and `os.cpu_count()` see the whole host. This module also reads quotas, cpusets and affinity masks.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_V1_UNLIMITED = 1 << 60
"""Bytes. cgroup v1 writes 2^63, rounded to a page, for "no memory limit"; no machine has an exabyte."""

_ISA_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx_vnni_int8",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sme",
    "sme2",
)
"""Each selects other kernels of onnxruntime. What was packed or tested for one set is not taken for another."""

INT8_DOT_PRODUCTS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
"""Instruction sets that multiply bytes and add the products in 32 bits in one instruction; VNNI on x86."""


@dataclass(frozen=True, kw_only=True)
class CpuBudget:
    """The CPUs and memory that this process may use, and the source of each limit."""

    logical: int
    """Logical CPUs of the host."""
    physical: int
    """Physical cores of the host."""
    usable: int
    """Logical CPUs in the affinity mask, which a cpuset narrows."""
    quota: float | None
    """CPUs that the cgroup's bandwidth quota grants; None: unlimited."""
    memory: int
    """Bytes: the smaller of the host's memory and every cgroup limit above this process."""
    isa: tuple[str, ...]
    """Instruction sets that matter to INT8 and FP16 kernels, by the kernel's flag names."""

    @property
    def cores(self) -> int:
        """Number of threads worth starting, at least 1.

        Hyper-threads share a core's vector units, so each core counts once. A quota is rounded to the nearest CPU:
        1.5 gives 2, because the second thread finds half a core idle; 1.4 gives 1.
        """
        share = math.ceil(self.usable * self.physical / self.logical)
        if self.quota is not None:
            share = min(share, math.floor(self.quota + 0.5))
        return max(1, share)

    def describe(self) -> str:
        """As in "2 of 2 cores (4 of 4 logical CPUs usable, quota 1.5)"."""
        quota = f", quota {self.quota:g}" if self.quota is not None else ""
        return f"{self.cores} of {self.physical} cores ({self.usable} of {self.logical} logical CPUs usable{quota})"


def read_cpu_budget(root: Path = Path("/")) -> CpuBudget:
    """Measure the machine. `root` holds `proc/` and `sys/`; tests pass a directory of their own."""
    logical = psutil.cpu_count(logical=True) or 1
    groups = _own_groups(root)
    quotas = [quota for group in groups if (quota := _quota(group)) is not None]
    limits = [limit for group in groups if (limit := _memory_limit(group)) is not None]
    return CpuBudget(
        logical=logical,
        physical=min(psutil.cpu_count(logical=False) or logical, logical),
        usable=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical,
        quota=min(quotas, default=None),
        memory=min([psutil.virtual_memory().total, *limits]),
        isa=_isa(root),
    )


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    return int(psutil.Process().memory_info().rss)


@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """Readings of three clocks in seconds. Only differences between two readings mean something."""

    wall: float
    machine: float
    """CPU time of all processes on the machine, and the time that a hypervisor gave to its other guests."""
    own: float
    """CPU time of this process and of the child processes that it has waited for."""

    def others_since(self, before: CpuUse, logical: int) -> float:
        """Share of the `logical` CPUs that other processes used since `before`, from 0 to 1."""
        others = (self.machine - before.machine) - (self.own - before.own)
        return min(1.0, max(0.0, others / (logical * max(self.wall - before.wall, 1e-9))))


def read_cpu_use() -> CpuUse:
    """Read the three clocks now."""
    machine, own = psutil.cpu_times()._asdict(), os.times()
    at_work = sum(machine.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return CpuUse(wall=time.monotonic(), machine=at_work, own=sum(own[:4]))


def _own_groups(root: Path) -> list[Path]:
    """The cgroup directories (v2 or v1) of this process with all ancestors, because limits are inherited."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    groups: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # v2: one hierarchy; `unified` where v1 and v2 are mounted side by side
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        else:
            mounts = [root / "sys/fs/cgroup" / name for name in (*controllers.split(","), controllers)]
        # Inside a container with its own cgroup namespace the path is "/", or does not exist below the mount.
        inside = Path(path.lstrip("/"))
        groups += [mount / part for mount in mounts for part in (inside, *inside.parents) if (mount / part).is_dir()]
    return groups


def _quota(group: Path) -> float | None:
    v2 = _read(group / "cpu.max").split()
    if len(v2) == 2 and v2[0] != "max":
        return int(v2[0]) / int(v2[1])
    quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
    if quota and period and int(quota) > 0 and int(period) > 0:
        return int(quota) / int(period)
    return None


def _memory_limit(group: Path) -> int | None:
    text = _read(group / "memory.max") or _read(group / "memory.limit_in_bytes")
    if not text or text == "max" or int(text) >= _V1_UNLIMITED:
        return None
    return int(text)


def _isa(root: Path) -> tuple[str, ...]:
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            flags = set(line.partition(":")[2].split())
            return tuple(flag for flag in _ISA_FLAGS if flag in flags)
    return ()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
