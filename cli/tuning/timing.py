"""Loads a model directory with one execution plan, tests or times it, and returns its memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from siglip_edge.cli.timed_rows import PASSAGE, QUERY, rows_of_length, timed_lengths
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.checks.selftest import GoldenRow
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.machine.memory import give_back
from siglip_edge.runtime.model import EmbeddingModel

RUNS = 50
"""Most timed runs per thread, tower and lap; more runs do not change a small model's median."""

ROWS_QUEUED = 8
"""Rows per run when the plan sets no limit: as many as eight clients with one row each have in the queue."""


@dataclass(frozen=True)
class ModelTrial:
    """The served towers of a model directory. One plan is in memory at a time, as in a server."""

    directory: Path
    towers: Collection[Tower]
    golden: list[GoldenRow]
    cache: Path
    """Directory for packed graphs."""

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
        give_back()  # the memory of the plan before
        yield EmbeddingModel.load(self.directory, plan, towers=self.towers, cache=self.cache)


def _row_ms(model: EmbeddingModel, tower: Tower, plan: ExecutionPlan, seconds: float) -> float:
    """Median wall time per row, in milliseconds, with as many runs side by side as the server has.

    Texts of a model whose rows have several lengths are as many queries as passages.
    """
    lengths = timed_lengths(model.manifest, tower, QUERY, PASSAGE)
    count = plan.rows(tower) or ROWS_QUEUED
    rows = [row for tokens in lengths for row in rows_of_length(model, tower, count, tokens)]
    run = partial(model.run, tower, rows, crowded=True)
    for row in rows[::count]:
        model.run(tower, [row], crowded=True)  # not timed: the first run of a length allocates memory
    end = time.perf_counter() + seconds
    with ThreadPoolExecutor(plan.runs_at_once) as threads:
        timings = [threads.submit(_time, run, end) for _ in range(plan.runs_at_once)]
        taken = [one for timing in timings for one in timing.result()]
    return 1000 * statistics.median(taken) / (len(rows) * plan.runs_at_once)


def _time(run: Callable[[], object], end: float) -> Sequence[float]:
    """Run until `end`, at least once and at most RUNS times. -> seconds of each run."""
    taken: list[float] = []
    while not taken or (len(taken) < RUNS and time.perf_counter() < end):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return taken
