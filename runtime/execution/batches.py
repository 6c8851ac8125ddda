"""Which rows share a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from siglip_edge.runtime.execution.plan import BatchLimit
from siglip_edge.runtime.rows import Row, ShapeKey


def batches(rows: Sequence[Row], limit: BatchLimit) -> Iterator[list[int]]:
    """Positions of rows that share a run: one shape key each, within `limit`, in order."""
    by_shape: dict[ShapeKey, list[int]] = {}
    for position, row in enumerate(rows):
        by_shape.setdefault(row.shape_key, []).append(position)
    for positions in by_shape.values():
        batch: list[int] = []
        for position in positions:
            if batch and not limit.allows(len(batch) + 1, sum(rows[one].cost for one in [*batch, position])):
                yield batch
                batch = []
            batch.append(position)
        yield batch
