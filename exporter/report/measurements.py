"""Losses and gains of an export, measured on the finished model directory as it is served."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.verification.fidelity import nearest_agreement
from siglip_edge.runtime.artifacts.manifest import Artifact, Manifest, Precision, RotationSpec, Tower
from siglip_edge.runtime.errors import ModelError, ProviderUnavailable
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, Wishes, plan
from siglip_edge.runtime.execution.session import available_providers
from siglip_edge.runtime.machine.cpu import CpuBudget, read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row

Floats = NDArray[np.float32]

Place = tuple[Precision, str]
"""A precision on an execution provider."""

_TIMED_ROWS = 8
_DEVICES = {CPU: "cpu", OPENVINO: "openvino", CUDA: "cuda"}


class ArtifactReport(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact on the held-back rows, beside FP32."""

    tower: Tower
    precision: Precision
    megabytes: float
    row_ms: dict[str, float]
    """Execution provider -> median of one row alone; precisions and providers take turns."""
    losses: list[float]
    """1 - cosine per row, ascending."""
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
    """Share of held-back images that choose the same one of the held-back texts as in FP32; of two towers."""
    timed_costs: dict[Tower, tuple[int, int]] = {}
    """Least and greatest cost of the timed rows, in tokens or patches."""
    shortened: dict[int, float]
    """Length -> share of held-back rows that keep their nearest other row when `dimensions` asks for that length."""


def measure(
    directory: Path, manifest: Manifest, rows: Mapping[Tower, Sequence[Row]], reference: Mapping[Tower, Floats]
) -> Report:
    """`rows`: held back from calibration; `reference`: their FP32 embeddings, (n, d) unit rows."""
    cpu = read_cpu_budget()
    models = _models(directory, manifest, cpu)
    embeddings = {
        precision: {tower: models[precision, CPU].run(tower, list(rows[tower])) for tower in manifest.tower_names}
        for precision in manifest.precisions()
    }
    return Report(
        name=manifest.name,
        source=manifest.source,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{cpu.describe()}; {' '.join(cpu.isa)}",
        toolchain=manifest.toolchain,
        artifacts=[
            _artifact(
                (tower, precision),
                manifest.artifact(tower, precision),
                embeddings[precision][tower],
                reference[tower],
                row_ms[precision],
            )
            for tower in manifest.tower_names
            for row_ms in [_row_ms(models, tower, rows[tower])]
            for precision in manifest.precisions()
        ],
        zero_shot_agreement=_zero_shot_agreement(embeddings, reference) if len(reference) == len(Tower) else {},
        timed_costs={tower: (min(costs), max(costs)) for tower, costs in _timed_costs(rows).items()},
        shortened=manifest.shortening.kept if isinstance(manifest.shortening, RotationSpec) else {},
    )


def _zero_shot_agreement(
    embeddings: Mapping[Precision, Mapping[Tower, Floats]], reference: Mapping[Tower, Floats]
) -> dict[Precision, float]:
    chosen = _best_text(reference)
    return {precision: round(float(np.mean(_best_text(both) == chosen)), 4) for precision, both in embeddings.items()}


def _best_text(embeddings: Mapping[Tower, Floats]) -> NDArray[np.intp]:
    return np.asarray((embeddings[Tower.VISION] @ embeddings[Tower.TEXT].T).argmax(axis=1))


def _models(directory: Path, manifest: Manifest, cpu: CpuBudget) -> dict[Place, EmbeddingModel]:
    """The model in every precision on every provider of this environment; a provider that cannot run it is left out."""
    models = {}
    for precision, (provider, device) in product(manifest.precisions(), _DEVICES.items()):
        with suppress(ModelError, ProviderUnavailable):
            planned = plan(available_providers(), cpu, manifest, Wishes(device=device, precision=precision))
            models[precision, provider] = EmbeddingModel.load(directory, planned)
    return models


def _artifact(
    which: tuple[Tower, Precision],
    artifact: Artifact,
    embeddings: Floats,
    reference: Floats,
    row_ms: Mapping[str, float],
) -> ArtifactReport:
    losses = 1 - np.sum(embeddings * reference, axis=1, dtype=np.float64)
    return ArtifactReport(
        tower=which[0],
        precision=which[1],
        megabytes=round(sum(record.size for record in artifact.files) / 1e6, 2),
        row_ms={provider: round(ms, 3) for provider, ms in row_ms.items()},
        losses=[round(float(loss), 8) for loss in np.sort(losses)],
        retrieval_agreement=round(nearest_agreement(reference, embeddings), 4),
        details=artifact.details,
    )


def _timed_costs(rows: Mapping[Tower, Sequence[Row]]) -> dict[Tower, list[int]]:
    return {tower: [row.cost for row in of_tower[:_TIMED_ROWS]] for tower, of_tower in rows.items()}


def _row_ms(
    models: Mapping[Place, EmbeddingModel], tower: Tower, rows: Sequence[Row]
) -> dict[Precision, dict[str, float]]:
    taken: dict[Place, list[float]] = {place: [] for place in models}
    for row in rows[:_TIMED_ROWS]:
        for place, model in models.items():
            started = time.perf_counter()
            model.run(tower, [row])
            taken[place].append(1000 * (time.perf_counter() - started))
    medians: dict[Precision, dict[str, float]] = defaultdict(dict)
    for (precision, provider), times in taken.items():
        medians[precision][provider] = statistics.median(times)
    return medians
