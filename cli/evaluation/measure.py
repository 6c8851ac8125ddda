"""Measures the accuracy, speed and size of one model directory on one data set."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_edge.cli.evaluation.datasets import Dataset, open_image
from siglip_edge.cli.model_options import plan_with
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.machine.cpu import resident_bytes
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row
from siglip_edge.server.config.settings import Settings

Floats = NDArray[np.float32]
Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Scores are shares from 0 to 1. `image_ms` and `text_ms`: median milliseconds per row, without decoding and
    tokenization. Memory and file sizes in megabytes.
    """

    model: str
    precision: str
    scores: dict[str, float]
    image_ms: float
    text_ms: float
    load_ms: float
    resident_mb: float
    size_mb: float


def measure(  # noqa: PLR0917 - a process pool passes by place
    directory: Path, settings: Settings, precision: str, data: Dataset, template: str | None, progress: Progress
) -> Measured:
    """Embed the data set with one model, row by row. Use a fresh process, so that only the model's memory counts.

    `template`: text with `{}` in place of the class name; None: the model's own. Captions stay unchanged.
    Raises ModelError or ProviderUnavailable.
    """
    before, started = resident_bytes(), time.perf_counter()
    model = plan_with(settings, directory, precision=precision).open()
    load_ms = 1000 * (time.perf_counter() - started)
    manifest = model.manifest
    wrap = template or manifest.zero_shot_template
    texts = [wrap.replace("{}", text) if data.labelled else text for text in data.texts]
    title = f"{manifest.name} {model.plan.precision}"
    images, image_ms = _embedded(
        model, Tower.VISION, (model.prepare_image(open_image(p)) for p in progress(data.images, title))
    )
    vectors, text_ms = _embedded(model, Tower.TEXT, (model.prepare_text(text).row for text in texts))
    files = {record for tower in model.towers for record in manifest.artifact(tower, model.plan.precision).files}
    return Measured(
        model=manifest.name,
        precision=model.plan.precision,
        scores=score(images @ vectors.T, data),
        image_ms=image_ms,
        text_ms=text_ms,
        load_ms=round(load_ms, 1),
        resident_mb=round((resident_bytes() - before) / 1e6, 1),
        size_mb=round(sum(record.size for record in files) / 1e6, 3),
    )


def score(similarity: Floats, data: Dataset) -> dict[str, float]:
    """Cosines (images, texts) -> top-1 and top-5 for labels; for captions recall at 1, 5 and 10 in both directions."""
    by_image = ranks(similarity, data.relevant)
    if data.labelled:
        return {f"top-{k}": _within(by_image, k) for k in (1, 5)}
    by_text = ranks(similarity.T, data.relevant.T)
    ways = {"image→text": by_image, "text→image": by_text}
    return {f"{way} R@{k}": _within(rank, k) for way, rank in ways.items() for k in (1, 5, 10)}


def ranks(similarity: Floats, relevant: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Per row: the rank, from 1, of the best relevant column among the irrelevant columns. Ties count as worse."""
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(1 + (~relevant & (similarity >= best)).sum(axis=1))


def _within(rank: NDArray[np.int64], k: int) -> float:
    return round(float((rank <= k).mean()), 4)


def _embedded(model: EmbeddingModel, tower: Tower, rows: Iterable[Row]) -> tuple[Floats, float]:
    """Rows -> embeddings (n, d) and the median milliseconds per row."""
    embeddings: list[Floats] = []
    taken: list[float] = []
    for row in rows:
        started = time.perf_counter()
        embeddings.append(model.run(tower, [row]))
        taken.append(1000 * (time.perf_counter() - started))
    return np.concatenate(embeddings), round(statistics.median(taken), 2)


def table(measured: Sequence[Measured]) -> str:
    """A text table with a line per model."""
    names = list(measured[0].scores)
    header = ["model", "precision", *names, "image ms", "text ms", "load ms", "resident MB", "files MB"]
    rows = [
        [
            one.model,
            one.precision,
            *(f"{100 * one.scores[name]:.1f} %" for name in names),
            f"{one.image_ms:.2f}",
            f"{one.text_ms:.2f}",
            f"{one.load_ms:.0f}",
            f"{one.resident_mb:.0f}",
            f"{one.size_mb:.1f}",
        ]
        for one in measured
    ]
    return "\n".join(columns(header, rows))


def columns(header: list[str], rows: Sequence[list[str]]) -> list[str]:
    """The lines of a table with left-aligned cells."""
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
