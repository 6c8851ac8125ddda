"""Facts and wishes -> how many workers, and how large the micro-batches. Pure."""

from __future__ import annotations

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.server.config.settings import Settings

_WORKER_BYTES = 400 << 20
"""Memory set aside a worker when counting how many fit: a base model in INT8 and its requests."""


def worker_count(settings: Settings, cpu: CpuBudget) -> int:
    """WORKERS as asked; else one, whose threads use every core; with AUTO_SCALE_WORKERS one a core that memory allows.

    One is the default because throughput is the same (a tower's run scales over the cores) and memory is not.
    """
    if settings.workers is not None:
        return settings.workers
    if not settings.auto_scale_workers:
        return 1
    return max(1, min(usable_cores(settings, cpu), cpu.memory // _WORKER_BYTES))


def usable_cores(settings: Settings, cpu: CpuBudget) -> int:
    return max(1, int(cpu.cores * settings.cpu_utilization_factor))


def intra_op_threads(settings: Settings, cpu: CpuBudget) -> int:
    return max(1, usable_cores(settings, cpu) // worker_count(settings, cpu))


def served_towers(settings: Settings) -> tuple[Tower, ...]:
    return tuple(Tower) if settings.towers == "both" else (Tower(settings.towers),)


def wishes(settings: Settings, cpu: CpuBudget) -> Wishes:
    """What the operator asked for, with a worker's share of the cores."""
    return Wishes(
        device=settings.device,
        precision=None if settings.precision == "auto" else Precision(settings.precision),
        workers=worker_count(settings, cpu),
        intra_op_threads=intra_op_threads(settings, cpu),
        max_concurrent_batches=settings.max_concurrent_batches,
        batch_size=settings.batch_size,
    )


def concurrent_batches(settings: Settings, plan: ExecutionPlan) -> int:
    """MAX_CONCURRENT_BATCHES, of both towers together; by default neither waits for the other's to end."""
    return settings.max_concurrent_batches or len(Tower) * plan.runs_at_once
