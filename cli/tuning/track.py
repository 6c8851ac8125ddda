"""A model directory on this machine, one plan at a time: where there is memory for one model there is for a race."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.checks.selftest import GoldenRow, noise
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.machine.memory import give_back
from siglip_edge.runtime.model import EmbeddingModel, Row

RUNS = 50
"""At most so many a thread, tower and lap: a small model has told its speed by then."""

ROWS_QUEUED = 8
"""Rows in a run where the plan sets no number: as many as eight clients have waiting."""


@dataclass(frozen=True)
class ModelTrack:
    """The towers that will be served, loaded, tried and given back for every lap."""

    directory: Path
    towers: Collection[Tower]
    golden: list[GoldenRow]
    cache: Path
    """For prepared graphs: those of the slower ones are of no further use."""

    def cosines(self, plan: ExecutionPlan) -> dict[Tower, float]:
        with self._loaded(plan) as model:
            return selftest.check(model, self.golden)

    def lap(self, plan: ExecutionPlan, seconds: float) -> dict[Tower, float]:
        with self._loaded(plan) as model:
            return {
                tower: _row_ms(
                    model,
                    tower,
                    noise(model, tower, plan.rows(tower) or ROWS_QUEUED),
                    plan.runs_at_once,
                    seconds / len(model.towers),
                )
                for tower in model.towers
            }

    def check_bits(self, plan: ExecutionPlan) -> None:
        with self._loaded(plan) as model:
            selftest.check_bits(model)

    @contextmanager
    def _loaded(self, plan: ExecutionPlan) -> Iterator[EmbeddingModel]:
        give_back()  # what the lap before held
        yield EmbeddingModel.load(self.directory, plan, towers=self.towers, cache=self.cache)


def _row_ms(model: EmbeddingModel, tower: Tower, rows: Sequence[Row], side_by_side: int, seconds: float) -> float:
    """Median wall time of a row, in milliseconds: from as many threads as a lane has, each with one run at a time."""
    model.run(tower, [rows[0]], crowded=True)  # first touches of memory
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(side_by_side) as threads:
        runs = [threads.submit(_run_seconds, model, tower, rows, end) for _ in range(side_by_side)]
        taken = [one for run in runs for one in run.result()]
    return 1000 * statistics.median(taken) / (len(rows) * side_by_side)


def _run_seconds(model: EmbeddingModel, tower: Tower, rows: Sequence[Row], end: float) -> list[float]:
    """One run after the other, one at least."""
    taken: list[float] = []
    while not taken or (len(taken) < RUNS and time.perf_counter() < end):
        started = time.perf_counter()
        model.run(tower, [*rows], crowded=True)
        taken.append(time.perf_counter() - started)
    return taken
