"""Rates of the compared models in turns, each turn in a fresh process with one model in memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from siglip_edge.cli.evaluation.datasets import Dataset, Kind
from siglip_edge.cli.evaluation.embedding import ROWS, Look, picture_row
from siglip_edge.cli.evaluation.measure import Subject, open_again, worded
from siglip_edge.cli.evaluation.results import Speed
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row
from siglip_edge.server.config.settings import Settings

SAMPLE = 32
"""Inputs per tower, spread over the data set, that are prepared before the clock starts."""

Rates = Mapping[Tower, float]
"""Rows per second."""


def measure_rates(
    subject: Subject, settings: Settings, data: Dataset, template: str | None, seconds: float
) -> dict[Tower, float]:
    """One turn: the rate of each tower with as many runs side by side as the plan has. Raises like `measure`."""
    model = open_again(subject, settings, data)
    wording = worded(data, model.manifest, template)
    texts = wording.right if data.kind is not Kind.RETRIEVAL else [*wording.left, *wording.right]
    rows = {Tower.TEXT: [model.prepare_text(str(text)).row for text in _sample(texts)]}
    if Tower.VISION in data.towers:
        rows[Tower.VISION] = list(_pictures(model, [Path(file) for file in _sample(data.left)], subject.look(settings)))
    return {tower: _rate(model, tower, rows[tower], seconds) for tower in data.towers if rows[tower]}


def speeds(turns: Sequence[Mapping[str, Rates]]) -> dict[str, dict[Tower, Speed]]:
    """Rates of every round, by the model's label -> speeds. A model that failed in some round has none.

    The ratio's base is the first model that has the tower.
    """
    labels = [label for label in turns[0] if all(label in turn for turn in turns)] if turns else []
    found: dict[str, dict[Tower, Speed]] = {label: {} for label in labels}
    for tower in Tower:
        having = [label for label in labels if all(tower in turn[label] for turn in turns)]
        for label in having:
            rates = [turn[label][tower] for turn in turns]
            ratios = [turn[label][tower] / turn[having[0]][tower] for turn in turns]
            found[label][tower] = Speed(
                rows_per_s=[round(rate, 3) for rate in rates],
                ratio=statistics.fmean(ratios),
                ratio_error=statistics.stdev(ratios) / math.sqrt(len(ratios)) if len(ratios) > 1 else None,
            )
    return found


def _sample(inputs: Sequence[Path | str]) -> Sequence[Path | str]:
    return inputs[:: max(1, len(inputs) // SAMPLE)][:SAMPLE]


def _pictures(model: EmbeddingModel, files: Sequence[Path], look: Look) -> Iterator[Row]:
    for file in files:
        try:
            yield picture_row(model, file, look)
        except (OSError, InvalidInput):
            continue  # left out, and reported, by the evaluation


def _rate(model: EmbeddingModel, tower: Tower, rows: Sequence[Row], seconds: float) -> float:
    """Rows per second over all threads."""
    threads = model.plan.runs_at_once
    for row in {row.shape_key: row for row in rows}.values():
        model.run(tower, [row], crowded=threads > 1)  # not timed: the first run of a shape allocates memory
    started = time.perf_counter()
    run = partial(_run_until, model, tower, rows, started + seconds)
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(run, range(threads)))
    return done / (time.perf_counter() - started)


def _run_until(model: EmbeddingModel, tower: Tower, rows: Sequence[Row], end: float, thread: int) -> int:
    """Run the rows in turn, ROWS at a time and at least once. -> rows done."""
    endless = islice(cycle(rows), thread * ROWS, None)
    crowded, done = model.plan.runs_at_once > 1, 0
    while not done or time.perf_counter() < end:
        done += len(model.run(tower, list(islice(endless, ROWS)), crowded=crowded))
    return done
