"""Run the served towers once, so that the first caller does not pay for first touches of memory."""

from __future__ import annotations

from siglip_edge.runtime.checks.selftest import noise
from siglip_edge.server.embedding.preparation import Model


def warm_up(model: Model, *, steps: int, rows: int) -> None:
    """`steps` runs per tower of `rows` rows each."""
    for tower in model.towers:
        batch = noise(model, tower, rows)
        for _ in range(steps):
            model.run(tower, batch)
