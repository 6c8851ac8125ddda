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

    Both depend on this row alone, so the bits of its embedding do not depend on its neighbours.
    """

    __slots__ = ("arrays", "cost", "shape_key")

    def __init__(self, arrays: Arrays, cost: int) -> None:
        """`cost`: tokens or patches, padding included; the time of a run grows with it."""
        self.arrays = arrays
        self.cost = cost
        self.shape_key: ShapeKey = tuple((name, array.shape) for name, array in arrays.items())
        """Rows of one shape key can share a run."""


@dataclass(frozen=True)
class TextRow:
    """A text, prepared. `tokens` counts real tokens: prefix and suffix included, padding not."""

    row: Row
    tokens: int
    truncated: bool


def stack(rows: Sequence[Row]) -> dict[str, NDArray[np.generic]]:
    """Rows of one shape key -> the batch: every array with the batch axis first."""
    return {name: np.stack([row.arrays[name] for row in rows]) for name in rows[0].arrays}
