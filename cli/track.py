"""A model directory on this machine, one plan at a time: where there is memory for one model there is for a race."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime import selftest
from runtime.errors import SelfTestFailed
from runtime.manifest import Tower
from runtime.memory import give_back
from runtime.model import Row, SiglipModel
from runtime.providers import ExecutionPlan
from runtime.selftest import GoldenRow

RUNS = 50
"""At most so many a tower and lap: a small model has told its speed by then."""

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
                tower: _row_ms(model, tower, plan.rows_per_run or ROWS_QUEUED, seconds / len(model.towers))
                for tower in model.towers
            }

    def check_bits(self, plan: ExecutionPlan) -> None:
        rows_per_run = plan.rows_per_run or ROWS_QUEUED
        with self._loaded(plan) as model:
            for tower in model.towers:
                rows = noise(model, tower, rows_per_run)
                alone = np.concatenate([model.run(tower, [row]) for row in rows])
                for size in range(2, rows_per_run + 1):
                    if not np.array_equal(model.run(tower, rows[:size]), alone[:size]):
                        raise SelfTestFailed(f"a batch of {size} gives the {tower} tower's rows other bits")

    @contextmanager
    def _loaded(self, plan: ExecutionPlan) -> Iterator[SiglipModel]:
        give_back()  # what the lap before held
        yield SiglipModel.load(self.directory, plan, towers=self.towers, cache=self.cache)


def noise(model: SiglipModel, tower: Tower, count: int) -> list[Row]:
    """So many different rows; always the same ones."""
    rng, manifest = np.random.default_rng(0), model.manifest
    if tower is Tower.VISION:
        size = manifest.image.size
        return list(rng.integers(0, 256, (count, 3, size, size), np.uint8))
    return [model.prepare_text(f"text number {number}").ids for number in range(count)]


def _row_ms(model: SiglipModel, tower: Tower, rows_per_run: int, seconds: float) -> float:
    """Median wall time of a row, in milliseconds: one run at a time, as a lane's batch thread does it."""
    rows = noise(model, tower, rows_per_run)
    model.run(tower, rows[:1])  # first touches of memory
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or (len(taken) < RUNS and time.perf_counter() < end):
        started = time.perf_counter()
        model.run(tower, rows)
        taken.append(1000 * (time.perf_counter() - started) / rows_per_run)
    return statistics.median(taken)
