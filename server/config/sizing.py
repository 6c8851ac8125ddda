"""Settings and CPU budget -> number of workers, threads, and simultaneous runs. Pure functions."""

from __future__ import annotations

from siglip_edge.runtime.artifacts.manifest import Precision, Tower
from siglip_edge.runtime.execution.plan import ExecutionPlan, Wishes
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.server.config.settings import Settings

_FIXED_RUNS = 2
"""Runs at once with AUTO_SCALE_WORKERS=false: the earlier server's number."""

_SPARE_THREADS = 2
"""Threads that embedding requests cannot occupy, so that probes are answered under any load."""

_FEWEST_CONNECTIONS = 1000
_MOST_CONNECTIONS = 4096
"""A waiting connection takes a few kilobytes here, and up to 128 KiB of a body that the system has received."""
_OTHER_CONNECTIONS = 256
"""Idle ones, and those of probes."""
_OTHER_FILES = 128
"""Files that are no connections: the model's, the log, pipes."""

_WORKER_BYTES = 400 << 20
"""Memory that WORKERS=auto counts per worker: a base model in INT8 and its requests."""


def worker_count(settings: Settings, cpu: CpuBudget) -> int:
    """-> WORKERS; for `auto`, one worker per usable core, as far as memory allows.

    1 is the default, because more workers need more memory and compute no faster: one run uses every core.
    """
    if settings.workers != "auto":
        return settings.workers
    return max(1, min(usable_cores(settings, cpu), cpu.memory // _WORKER_BYTES))


def places(settings: Settings) -> int:
    """-> the number of requests that one worker computes at the same time."""
    return settings.threads - _SPARE_THREADS


def worker_connections(settings: Settings, open_files: int) -> int:
    """-> the number of connections that one worker holds. `open_files`: how many the system allows it."""
    waiting = settings.max_waiting_requests
    wanted = _MOST_CONNECTIONS if waiting is None else settings.threads + waiting + _OTHER_CONNECTIONS
    return min(max(_FEWEST_CONNECTIONS, wanted), open_files - _OTHER_FILES)


def waiting_requests(settings: Settings, connections: int) -> int:
    """-> the number of requests that may wait for a place; probes always find a connection."""
    room = max(0, connections - settings.threads - _OTHER_CONNECTIONS)
    return room if settings.max_waiting_requests is None else min(room, settings.max_waiting_requests)


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
    """-> the largest number of simultaneous runs that a model asks for, both towers together.

    By default every thread of every lane may run, so no tower waits for the other one. The greatest number of all
    models is the limit of the process (`server/batching/run_turns.py`).
    """
    return _wished_runs(settings) or len(Tower) * plan.runs_at_once


def _wished_runs(settings: Settings) -> int | None:
    """None: the plan chooses."""
    return settings.max_concurrent_batches or (None if settings.auto_scale_workers else _FIXED_RUNS)
