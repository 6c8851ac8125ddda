"""What this process may use of the machine. The only importer of psutil.

onnxruntime and `os.cpu_count()` see the whole host; a container's quota, a cpuset and an affinity mask are seen here.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_V1_UNLIMITED = 1 << 60
"""cgroup v1 writes a page-rounded 2^63 for "no memory limit"; nobody has an exabyte."""

_ISA_FLAGS = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "bf16",
)

INT8_DOT_PRODUCTS = frozenset({"avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm"})
"""Those of them that multiply bytes and add the products in 32 bits, in one instruction; x86 calls it VNNI."""


@dataclass(frozen=True, kw_only=True)
class CpuBudget:
    """The CPU and memory this process may use, and where each limit comes from."""

    logical: int
    """Logical CPUs of the host."""
    physical: int
    """Physical cores of the host."""
    usable: int
    """Logical CPUs in the affinity mask, which a cpuset narrows too."""
    quota: float | None
    """CPUs granted by the cgroup's bandwidth quota; None: unlimited."""
    memory: int
    """Bytes: the smaller of the host's memory and every cgroup limit above this process."""
    isa: tuple[str, ...]
    """Instruction sets that matter to INT8 and FP16 kernels, by the kernel's flag names."""

    @property
    def cores(self) -> int:
        """Threads worth starting: hyper-threads share the vector units, and a quota is rounded to the nearest CPU.

        A quota of 1.5 gives 2: the second thread finds half a core idle. 1.4 gives 1.
        """
        share = math.ceil(self.usable * self.physical / self.logical)
        if self.quota is not None:
            share = min(share, math.floor(self.quota + 0.5))
        return max(1, share)

    def describe(self) -> str:
        quota = f", quota {self.quota:g}" if self.quota is not None else ""
        return f"{self.cores} of {self.physical} cores ({self.usable} of {self.logical} logical CPUs usable{quota})"


def read_cpu_budget(root: Path = Path("/")) -> CpuBudget:
    """Measure the machine. `root` holds `proc/` and `sys/`: another one in tests."""
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
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


@dataclass(frozen=True, kw_only=True)
class CpuUse:
    """Seconds so far, on clocks that only differences are taken of."""

    wall: float
    machine: float
    """CPU time of everything on the machine; what a hypervisor gave to its other guests counts."""
    own: float
    """CPU time of this process and the children it has waited for."""

    def others_since(self, before: CpuUse, logical: int) -> float:
        """Share of the machine's CPUs that went to others meanwhile, from 0 to 1."""
        others = (self.machine - before.machine) - (self.own - before.own)
        return min(1.0, max(0.0, others / (logical * max(self.wall - before.wall, 1e-9))))


def read_cpu_use() -> CpuUse:
    machine, own = psutil.cpu_times()._asdict(), os.times()
    at_work = sum(machine.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return CpuUse(wall=time.monotonic(), machine=at_work, own=sum(own[:4]))


def _own_groups(root: Path) -> list[Path]:
    """The cgroup directories that bind this process, v2 or v1, with all their ancestors: a limit holds below it."""
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
