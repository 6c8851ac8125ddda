"""What an export lost and gained, measured on the finished model directory as it is served."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporter.calibration import Row
from exporter.fidelity import nearest_agreement
from runtime.cpu import read_cpu_budget
from runtime.manifest import Artifact, Manifest, Precision, Tower
from runtime.model import SiglipModel
from runtime.providers import CPU, Wishes, plan

Floats = NDArray[np.float32]

_TIMED_ROWS = 8


class ArtifactReport(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact on the held-back rows, beside FP32."""

    tower: Tower
    precision: Precision
    megabytes: float
    row_ms: float
    """Median of one row alone; precisions take turns."""
    losses: list[float]
    """1 - cosine, a row, ascending."""
    retrieval_agreement: float
    """Share of rows whose nearest other row is FP32's."""
    details: dict[str, Any]

    @property
    def mean_loss(self) -> float:
        return statistics.mean(self.losses)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    source: str
    created: str
    machine: str
    toolchain: dict[str, str]
    artifacts: list[ArtifactReport]
    zero_shot_agreement: dict[Precision, float]
    """Share of held-back images that choose the same one of the held-back texts as in FP32."""
    shortened: dict[int, float]
    """Length -> share of held-back rows that keep their nearest other row when `dimensions` asks for that length."""


def measure(
    directory: Path, manifest: Manifest, rows: Mapping[Tower, Sequence[Row]], reference: Mapping[Tower, Floats]
) -> Report:
    """`rows`: held back from calibration; `reference`: their FP32 embeddings, (n, d) unit rows."""
    cpu = read_cpu_budget()
    models = {
        precision: SiglipModel.load(directory, plan([CPU], cpu, manifest, Wishes(device="cpu", precision=precision)))
        for precision in manifest.precisions()
    }
    embeddings = {
        precision: {tower: model.run(tower, list(rows[tower])) for tower in Tower}
        for precision, model in models.items()
    }
    chosen = _best_text(reference)
    return Report(
        name=manifest.name,
        source=manifest.source,
        created=manifest.created,
        machine=f"{cpu.describe()}; {' '.join(cpu.isa)}",
        toolchain=manifest.toolchain,
        artifacts=[
            _artifact(manifest.artifact(tower, precision), embeddings[precision][tower], reference[tower], row_ms)
            for tower in Tower
            for precision, row_ms in _row_ms(models, tower, rows[tower]).items()
        ],
        zero_shot_agreement={
            precision: round(float(np.mean(_best_text(both) == chosen)), 4) for precision, both in embeddings.items()
        },
        shortened=manifest.rotation.kept if manifest.rotation else {},
    )


def _best_text(embeddings: Mapping[Tower, Floats]) -> NDArray[np.intp]:
    return np.asarray((embeddings[Tower.VISION] @ embeddings[Tower.TEXT].T).argmax(axis=1))


def _artifact(artifact: Artifact, embeddings: Floats, reference: Floats, row_ms: float) -> ArtifactReport:
    losses = 1 - np.sum(embeddings * reference, axis=1, dtype=np.float64)
    return ArtifactReport(
        tower=artifact.tower,
        precision=artifact.precision,
        megabytes=round(sum(record.size for record in artifact.files) / 1e6, 2),
        row_ms=round(row_ms, 3),
        losses=[round(float(loss), 8) for loss in np.sort(losses)],
        retrieval_agreement=round(nearest_agreement(reference, embeddings), 4),
        details=artifact.details,
    )


def _row_ms(models: Mapping[Precision, SiglipModel], tower: Tower, rows: Sequence[Row]) -> dict[Precision, float]:
    taken: dict[Precision, list[float]] = {precision: [] for precision in models}
    for row in rows[:_TIMED_ROWS]:
        for precision, model in models.items():
            started = time.perf_counter()
            model.run(tower, [row])
            taken[precision].append(1000 * (time.perf_counter() - started))
    return {precision: statistics.median(times) for precision, times in taken.items()}
