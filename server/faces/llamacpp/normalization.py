"""`embd_normalize`: the length that vectors are scaled to."""

from __future__ import annotations

import numpy as np

from siglip_edge.runtime.model import Floats

_NONE, _LARGEST, _EUCLIDEAN = -1, 0, 2

_INT16_RANGE = 32760
"""llama.cpp's: a component times this fits 16 bits."""


def normalized(vector: Floats, kind: int) -> Floats:
    """A vector of unit length, scaled as llama.cpp does: 0 by its largest component, 1 and above by its p-norm."""
    return vector if kind in {_NONE, _EUCLIDEAN} else vector * np.float32(1 / _divisor(vector, kind))


def _divisor(vector: Floats, kind: int) -> float:
    sizes = np.abs(vector.astype(np.float64))
    largest = float(sizes.max())
    if kind == _LARGEST:
        return largest / _INT16_RANGE
    # Divided by the largest first: high powers of small numbers would all be zero.
    return largest * float(np.power(np.sum((sizes / largest) ** kind), 1 / kind))
