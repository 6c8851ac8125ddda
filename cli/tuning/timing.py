"""Tries one execution plan of a model directory: loads it, tests it or times it, and gives its memory back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.checks.selftest import GoldenRow, noise
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.machine.memory import give_back
from siglip_edge.runtime.model import EmbeddingModel

RUNS = 50
"""At most per thread, tower and lap: a small model needs no more."""

ROWS_QUEUED = 8
"""Rows per run where the plan sets no number: eight clients have as many waiting."""


@dataclass(frozen=True)
class ModelTrial:
    """The served towers of a model directory. One plan is in memory at a time, as in a server."""

    directory: Path
    towers: Collection[Tower]
    golden: list[GoldenRow]
    cache: Path
    """For prepared graphs."""

    def cosines(self, plan: ExecutionPlan) -> dict[Tower, float]:
        with self._loaded(plan) as model:
            return selftest.check(model, self.golden)

    def lap(self, plan: ExecutionPlan, seconds: float) -> dict[Tower, float]:
        with self._loaded(plan) as model:
            return {tower: _row_ms(model, tower, plan, seconds / len(model.towers)) for tower in model.towers}

    def check_bits(self, plan: ExecutionPlan) -> None:
        with self._loaded(plan) as model:
            selftest.check_bits(model)

    @contextmanager
    def _loaded(self, plan: ExecutionPlan) -> Iterator[EmbeddingModel]:
        give_back()  # the plan before
        yield EmbeddingModel.load(self.directory, plan, towers=self.towers, cache=self.cache)


def _row_ms(model: EmbeddingModel, tower: Tower, plan: ExecutionPlan, seconds: float) -> float:
    """Median wall time per row, in milliseconds, with as many runs side by side as the server has."""
    rows = noise(model, tower, plan.rows(tower) or ROWS_QUEUED)
    run = partial(model.run, tower, rows, crowded=True)
    model.run(tower, [rows[0]], crowded=True)  # first touches of memory
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(plan.runs_at_once) as threads:
        timings = [threads.submit(_time, run, end) for _ in range(plan.runs_at_once)]
        taken = [one for timing in timings for one in timing.result()]
    return 1000 * statistics.median(taken) / (len(rows) * plan.runs_at_once)


def _time(run: Callable[[], object], end: float) -> Sequence[float]:
    """Seconds of each run until `end`; of one at least."""
    taken: list[float] = []
    while not taken or (len(taken) < RUNS and time.perf_counter() < end):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return taken
