"""Warm-up: the first run of a tower allocates its memory, so it happens before the first request."""

from __future__ import annotations

from siglip_edge.runtime.checks.selftest import noise
from siglip_edge.server.embedding.preparation import Model


def warm_up(model: Model, *, steps: int, rows: int) -> None:
    """Run each served tower `steps` times with `rows` rows of noise."""
    for tower in model.towers:
        batch = noise(model, tower, rows)
        for _ in range(steps):
            model.run(tower, batch)
