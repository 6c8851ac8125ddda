"""Settings and CPU budget -> number of workers, threads, and simultaneous runs. Pure functions."""

from __future__ import annotations

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.server.config.settings import Settings

_WORKER_BYTES = 400 << 20
"""Memory that AUTO_SCALE_WORKERS counts per worker: a base model in INT8 and its requests."""


def worker_count(settings: Settings, cpu: CpuBudget) -> int:
    """-> WORKERS if it is set; with AUTO_SCALE_WORKERS, one worker per usable core, as far as memory allows; else 1.

    1 is the default, because more workers need more memory and compute no faster: one run uses every core.
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
    """-> the wishes of the operator for one worker, with its share of the cores."""
    return Wishes(
        device=settings.device,
        precision=None if settings.precision == "auto" else Precision(settings.precision),
        workers=worker_count(settings, cpu),
        intra_op_threads=intra_op_threads(settings, cpu),
        max_concurrent_batches=settings.max_concurrent_batches,
        batch_size=settings.batch_size,
    )


def concurrent_batches(settings: Settings, plan: ExecutionPlan) -> int:
    """-> the largest number of simultaneous runs, both towers together.

    By default every thread of every lane may run, so no tower waits for the other one.
    """
    return settings.max_concurrent_batches or len(Tower) * plan.runs_at_once
