"""The model without a server, in a process of its own: the same runs as in the lanes of a server, on prepared rows."""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, cycle, islice, product
from pathlib import Path

import numpy as np
from PIL import Image

from siglip_edge.bench.bodies import jpegs
from siglip_edge.bench.results import LargeJpeg
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.images import decoding
from siglip_edge.runtime.images.geometry import decoded_side
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row
from siglip_edge.server.config.environment import read_settings
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.models.loading import plan_as_served

_TWELVE_MEGAPIXELS = (4000, 3000)
_GRAIN = 6
"""Standard deviation of the noise that is added to an enlarged photograph. Enlarging adds no detail, but detail makes a
camera's file large and slow to decode."""
_ROWS = 32
_TOWERS = {"texts": Tower.TEXT, "images": Tower.VISION}


def describe(directory: Path) -> dict[str, object]:
    """-> model, execution plan and machine, for the report."""
    model, cpu = _opened(directory), read_cpu_budget()
    return {
        "model": model.manifest.name,
        "plan": f"{model.plan.place}: {model.plan.reason}",
        "machine": f"{cpu.describe()}, {cpu.memory / 2**30:.1f} GiB, {' '.join(cpu.isa)}",
    }


def disk_mb(directory: Path) -> float:
    """-> megabytes of the model directory, without the files that only other precisions use."""
    model = _opened(directory)
    served, others = model.plan.precision, set()
    for tower, precision in product(model.towers, model.manifest.precisions()):
        if precision is not served:
            others |= {record.path for record in model.manifest.artifact(tower, precision).files}
    for tower in model.towers:
        others -= {record.path for record in model.manifest.artifact(tower, served).files}
    return sum(path.stat().st_size for path in directory.iterdir() if path.name not in others) / 1e6


@dataclass(frozen=True)
class Turn:
    """One turn of bare calls."""

    rate: float
    """Rows per second."""
    cpu: float
    """CPU milliseconds per row."""
    waits: list[float]
    """Seconds in which as many rows finish as there are clients: the time that each client would have waited."""


def run_rows(directory: Path, kind: str, photos: Path | None, seconds: float, clients: int) -> Turn:
    """Run rows without a pause, with as many rows per run and as many runs at once as in a lane of the server."""
    model, tower = _opened(directory), _TOWERS[kind]
    rows, at_once = _rows(directory, tower, photos), model.plan.runs_at_once
    size = model.plan.rows(tower) or 1
    model.run(tower, rows[:size], crowded=True)
    started, cpu = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(at_once) as threads:
        loops = [threads.submit(_run_until, started + seconds, model, tower, rows, size) for _ in range(at_once)]
        ends = [loop.result() for loop in loops]
    return Turn(
        rate=sum(size * len(one) / (one[-1] - started) for one in ends),  # each loop is divided by its own time
        cpu=1000 * (time.process_time() - cpu) / (size * sum(map(len, ends))),
        waits=waits([started, *sorted(chain(*ends))], max(at_once, math.ceil(clients / size))),
    )


def _run_until(end: float, model: EmbeddingModel, tower: Tower, rows: list[Row], size: int) -> list[float]:
    """Take `rows` in turn, `size` rows per run, at least one run. -> moment of the end of each run."""
    ends: list[float] = []
    turn = cycle(rows)
    while not ends or ends[-1] < end:
        model.run(tower, list(islice(turn, size)), crowded=True)
        ends.append(time.monotonic())
    return ends


def waits(ends: Sequence[float], runs: int) -> list[float]:
    """-> seconds from each end to the end that is `runs` later; with fewer ends, from the first to the last."""
    runs = min(runs, len(ends) - 1)
    return [later - earlier for earlier, later in zip(ends, ends[runs:], strict=False)]


def large_jpeg(directory: Path, photos: Path | None, count: int, repeats: int) -> LargeJpeg:
    """Turn `count` photographs of 12 megapixels into rows, decoded as in the server, and decoded in full."""
    model = _opened(directory)
    side = decoded_side(model.manifest.vision.geometry)
    scaled, full = (partial(decoding.decode, target=target) for target in (side, None))
    pictures = jpegs(photos)[:count]
    files = [enlarge(data, seed) for seed, data in enumerate(pictures)]
    smooth = [enlarge(data, seed, grain=0) for seed, data in enumerate(pictures)]
    walls, smooth_walls, cpus, full_cpus, cosines = [], [], [], [], []
    for data, easier in zip(files, smooth, strict=True):
        for _ in range(repeats):
            started, cpu = time.perf_counter(), time.process_time()
            row = model.prepare_image(scaled(data))
            walls.append(time.perf_counter() - started)
            cpus.append(time.process_time() - cpu)
            started = time.perf_counter()
            model.prepare_image(scaled(easier))
            smooth_walls.append(time.perf_counter() - started)
        cpu = time.process_time()
        exact = model.prepare_image(full(data))
        full_cpus.append(time.process_time() - cpu)
        vectors = model.run(Tower.VISION, [row, exact])
        cosines.append(float(vectors[0] @ vectors[1]))
    return LargeJpeg(
        size_mb=statistics.mean(map(len, files)) / 1e6,
        wall=1000 * statistics.median(walls),
        cpu=1000 * statistics.median(cpus),
        full_cpu=1000 * statistics.median(full_cpus),
        cosine=min(cosines),
        smooth_mb=statistics.mean(map(len, smooth)) / 1e6,
        smooth_wall=1000 * statistics.median(smooth_walls),
    )


def enlarge(photo: bytes, seed: int, *, grain: float = _GRAIN) -> bytes:
    """A JPEG -> a JPEG of 4000 x 3000 pixels, with noise like a camera's."""
    large = Image.open(io.BytesIO(photo)).convert("RGB").resize(_TWELVE_MEGAPIXELS, Image.Resampling.BICUBIC)
    added = np.random.default_rng(seed).normal(0, grain, (*reversed(_TWELVE_MEGAPIXELS), 1)).astype(np.float32)
    samples = np.clip(np.asarray(large, np.float32) + added, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "JPEG", quality=90)
    return file.getvalue()


def _settings(directory: Path) -> Settings:
    return read_settings(MODEL=str(directory), TOWERS="both", WORKERS="1")


@cache
def _opened(directory: Path) -> EmbeddingModel:
    """The model as a worker of the server loads it, from the same cache of packed graphs."""
    return plan_as_served(_settings(directory), directory, read_cpu_budget()).open()


@cache
def _rows(directory: Path, tower: Tower, photos: Path | None) -> list[Row]:
    model = _opened(directory)
    if tower is Tower.TEXT:
        return [model.prepare_text(f"photograph number {number} of a cat on a chair").row for number in range(_ROWS)]
    files = [Image.open(io.BytesIO(data)) for data in jpegs(photos)[:_ROWS]]
    return [model.prepare_image(image) for image in files]
