"""Embeddings with a byte or a bit per number, for indexes that store them so. Pure.

The formulas are those of Jina's and Cohere's embedding APIs, so that vectors of both can be decoded alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.scoring import Floats


def int8(unit: Floats) -> NDArray[np.int8]:
    """rint(127 · v), halves to even. (d,) float32 of unit length -> (d,) int8 in [-127, 127]."""
    return np.rint(127 * _exact(unit)).astype(np.int8)


def uint8(unit: Floats) -> NDArray[np.uint8]:
    """rint((v + 1) · 127.5), halves to even. (d,) float32 of unit length -> (d,) uint8."""
    return np.rint((_exact(unit) + 1) * 127.5).astype(np.uint8)


def ubinary(unit: Floats) -> NDArray[np.uint8]:
    """The bits v > 0, the first number in the most significant bit. (d,) float32 -> (ceil(d / 8),) uint8.

    Zero bits fill the last byte; they are equal in every vector, so Hamming distances do not change.
    """
    return np.packbits(unit > 0)


def binary(unit: Floats) -> NDArray[np.int8]:
    """`ubinary` - 128, which is not the two's complement of its bytes. (d,) float32 -> (ceil(d / 8),) int8."""
    return (ubinary(unit).astype(np.int16) - 128).astype(np.int8)


def float32(unit: Floats) -> Floats:
    """Little-endian float32, unchanged."""
    return unit.astype("<f4", copy=False)


ENCODERS: Mapping[str, Callable[[Floats], NDArray[Any]]] = {
    "float": float32,
    "int8": int8,
    "uint8": uint8,
    "binary": binary,
    "ubinary": ubinary,
}
"""Name in a request -> its encoder."""


def _exact(unit: Floats) -> NDArray[np.float64]:
    """In float64 the products are exact, so that only the last step rounds."""
    return unit.astype(np.float64)
