"""Agreement of an artifact with FP32, measured in the session options that serve it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.errors import FidelityError
from siglip_edge.runtime.artifacts.manifest import Fidelity, Precision, Tower
from siglip_edge.runtime.scoring import l2_normalize

Floats = NDArray[np.float32]

FLOORS: dict[Precision, tuple[float, float]] = {
    # precision: (mean, worst row) of the cosine to the reference
    Precision.FP32: (0.99999, 0.99999),  # a traced graph against transformers: rounding only
    Precision.FP16: (0.9999, 0.999),
    Precision.INT8: (0.995, 0.95),
    Precision.INT4: (0.995, 0.95),
}

COLLAPSED = 0.01
"""Share of its size below which a pooled output is not imprecise but computed wrongly. Seen: 1e-7 to 1e-6."""


def compare(reference: Floats, candidate: Floats) -> Fidelity:
    """Pooled outputs of the same rows, (n, d) each -> their agreement. NaN anywhere counts as cosine -1."""
    left, right = l2_normalize(reference), l2_normalize(candidate)
    cosines = np.nan_to_num(np.sum(left * right, axis=1, dtype=np.float64), nan=-1.0)
    return Fidelity(
        rows=len(cosines),
        mean_cosine=round(float(cosines.mean()), 7),
        min_cosine=round(float(cosines.min()), 7),
        retrieval_agreement=round(nearest_agreement(left, right), 4),
    )


def verify(reference: Floats, candidate: Floats, tower: Tower, precision: Precision) -> Fidelity:
    """`compare`, or FidelityError saying by how much an artifact is below its floor, and why."""
    fidelity, (mean, worst) = compare(reference, candidate), FLOORS[precision]
    if fidelity.mean_cosine >= mean and fidelity.min_cosine >= worst:
        return fidelity
    raise FidelityError(
        f"{tower} {precision}: cosine to the reference is {fidelity.mean_cosine:.5f} on average and "
        f"{fidelity.min_cosine:.5f} at worst over {fidelity.rows} rows; at least {mean} and {worst} are required. "
        f"Nothing was written; {_remedy(reference, candidate, precision)}"
    )


def _remedy(reference: Floats, candidate: Floats, precision: Precision) -> str:
    if not np.isfinite(candidate).all():
        return "the graph gives numbers that are not finite: a scale or a sum overflows"
    shrunk = float(np.linalg.norm(candidate) / np.linalg.norm(reference))
    if shrunk < COLLAPSED:
        return (
            f"the pooled output has collapsed to {shrunk:.0e} of its size: onnxruntime fuses quantized products of two "
            "activations wrongly; quantize linear layers only"
        )
    return f"calibrate on more images and texts like those you will serve, or leave {precision} out of --precision"


def nearest_agreement(left: Floats, right: Floats) -> float:
    """Share of rows with the same nearest other row in both; (n, d) and (n, k) unit rows."""
    return float(np.mean(_nearest(left) == _nearest(right)))


def _nearest(unit: Floats) -> NDArray[np.intp]:
    """Index of every row's nearest other row. (n, d) -> (n,)."""
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    return np.asarray(np.nan_to_num(cosines, nan=-2.0).argmax(axis=1))
