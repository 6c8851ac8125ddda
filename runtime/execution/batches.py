"""Divides rows into batches; the rows of a batch share a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from siglip_edge.runtime.execution.plan import BatchLimit
from siglip_edge.runtime.rows import Row, ShapeKey


def batches(rows: Sequence[Row], limit: BatchLimit) -> Iterator[list[int]]:
    """Positions of the rows of each batch, in order. The rows of a batch have one shape key and stay within `limit`."""
    by_shape: dict[ShapeKey, list[int]] = {}
    for position, row in enumerate(rows):
        by_shape.setdefault(row.shape_key, []).append(position)
    for positions in by_shape.values():
        batch: list[int] = []
        for position in positions:
            if batch and not limit.allows(len(batch) + 1, sum(rows[member].cost for member in [*batch, position])):
                yield batch
                batch = []
            batch.append(position)
        yield batch
