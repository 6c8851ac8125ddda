"""Run the served towers once, so that the first caller does not pay for first touches of memory."""

from __future__ import annotations

import numpy as np

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.model import Row
from siglip_edge.server.embedding.preparation import Model


def warm_up(model: Model, *, steps: int, rows: int) -> None:
    """`steps` runs a tower of `rows` rows each."""
    for tower in model.towers:
        row = _row(model, tower)
        for _ in range(steps):
            model.run(tower, [row] * rows)


def _row(model: Model, tower: Tower) -> Row:
    if tower is Tower.TEXT:
        return model.prepare_text("a warm-up").ids
    size = model.manifest.image.size
    return np.zeros((3, size, size), np.uint8)
