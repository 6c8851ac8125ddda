"""A row: one prepared input of one tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]
ShapeKey = tuple[tuple[str, tuple[int, ...]], ...]


class Row:
    """Named arrays without the batch axis, a shape key and a cost.

    The arrays depend on one input alone, never on other rows of a batch.
    """

    __slots__ = ("arrays", "cost", "shape_key")

    def __init__(self, arrays: Arrays, cost: int) -> None:
        """`cost`: number of tokens or patches, padding included; the time of a run grows with it."""
        self.arrays = arrays
        self.cost = cost
        self.shape_key: ShapeKey = tuple((name, array.shape) for name, array in arrays.items())
        """Rows with the same shape key can share a run."""


@dataclass(frozen=True)
class TextRow:
    """The row of a text. `tokens` counts the row's tokens: with prefix and suffix, without padding."""

    row: Row
    tokens: int
    truncated: bool


def stack(rows: Sequence[Row]) -> dict[str, NDArray[np.generic]]:
    """Rows with the same shape key -> one batch: every array with the batch axis first."""
    return {name: np.stack([row.arrays[name] for row in rows]) for name in rows[0].arrays}
