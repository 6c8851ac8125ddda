"""Settings and CPU budget -> number of workers, threads, and simultaneous runs. Pure functions."""

from __future__ import annotations

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.server.config.settings import Settings

_FIXED_RUNS = 2
"""Runs at once with AUTO_SCALE_WORKERS=false: the earlier server's number."""

_WORKER_BYTES = 400 << 20
"""Memory that WORKERS=auto counts per worker: a base model in INT8 and its requests."""


def worker_count(settings: Settings, cpu: CpuBudget) -> int:
    """-> WORKERS; for `auto`, one worker per usable core, as far as memory allows.

    1 is the default, because more workers need more memory and compute no faster: one run uses every core.
    """
    if settings.workers != "auto":
        return settings.workers
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
        max_concurrent_batches=_wished_runs(settings),
        batch_size=settings.batch_size,
    )


def concurrent_batches(settings: Settings, plan: ExecutionPlan) -> int:
    """-> the largest number of simultaneous runs, both towers together.

    By default every thread of every lane may run, so no tower waits for the other one.
    """
    return _wished_runs(settings) or len(Tower) * plan.runs_at_once


def _wished_runs(settings: Settings) -> int | None:
    """None: the plan chooses."""
    return settings.max_concurrent_batches or (None if settings.auto_scale_workers else _FIXED_RUNS)
