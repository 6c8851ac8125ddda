"""Learn the basis for shorter vectors from the calibration embeddings of both towers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.verification.fidelity import nearest_agreement
from siglip_edge.runtime.shortening import Rotation

Floats = NDArray[np.float32]


def learn_directions(towers: Sequence[Floats]) -> Floats:
    """Principal directions of the embeddings. (n_i, d) unit rows a tower -> (d, d) orthonormal rows, widest first.

    Each tower is centred on its own mean: images and texts lie in two cones (Liang et al. 2022, "Mind the Gap"), and
    the gap between them would take the first direction without telling any image from another.
    """
    dimensions = towers[0].shape[1]
    covariance = np.zeros((dimensions, dimensions))
    for embeddings in towers:
        centred = embeddings.astype(np.float64) - embeddings.mean(axis=0, dtype=np.float64)
        covariance += centred.T @ centred / len(centred)
    _, directions = np.linalg.eigh(covariance)  # ascending
    directions = directions.T[::-1]
    # An eigenvector's sign is arbitrary and differs between machines; the largest coordinate is made positive.
    signs = np.sign(directions[np.arange(dimensions), np.abs(directions).argmax(axis=1)])
    return np.ascontiguousarray(directions * signs[:, None], dtype=np.float32)


def agreement_kept(directions: Floats, towers: Sequence[Floats]) -> dict[int, float]:
    """Length (1/2, 1/4, 1/8 of d) -> share of rows whose nearest other row of their tower stays the same."""
    rotation, dimensions = Rotation(directions), directions.shape[0]
    total = sum(len(rows) for rows in towers)
    kept = {}
    for length in (dimensions // 2, dimensions // 4, dimensions // 8):
        same = sum(len(rows) * nearest_agreement(rows, rotation.shorten(rows, length)) for rows in towers)
        kept[length] = round(same / total, 4)
    return kept
