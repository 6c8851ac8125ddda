"""What an encoding of `/v1/embeddings` costs in a search: pictures that keep their nearest other pictures.

    python -m siglip_edge.bench.encodings MODEL PICTURES

Prints per encoding: bytes per vector, the share of pictures whose nearest other picture stays the nearest, and the mean
share of their ten nearest that stay among the ten. float32 and cosine are the reference; bits are compared by Hamming
distance. docs/decisions/encodings.md has the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from siglip_edge.runtime import encodings
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.execution.plan import Wishes
from siglip_edge.runtime.model import EmbeddingModel, Floats
from siglip_edge.runtime.open_model import open_model

_NEIGHBOURS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    arguments = parser.parse_args()
    model = open_model(arguments.model, Wishes(), towers=[Tower.VISION])
    vectors = embedded(model, sorted(arguments.pictures.glob("*.png")))
    print(f"{len(vectors)} pictures, {vectors.shape[1]} numbers")
    for name, (size, nearest, ten) in kept(vectors).items():
        print(f"{name:8} {size:5} bytes  nearest kept {nearest:6.1%}  ten nearest kept {ten:6.1%}")


def embedded(model: EmbeddingModel, pictures: list[Path]) -> Floats:
    """-> (n, d) unit float32."""
    rows = [model.prepare_image(Image.open(path)) for path in pictures]
    return np.concatenate([model.run(Tower.VISION, [row]) for row in rows])


def kept(vectors: Floats) -> Mapping[str, tuple[int, float, float]]:
    """Encoding -> (bytes per vector, share that keep the nearest, mean share of the ten nearest that stay)."""
    reference = _neighbours(vectors @ vectors.T)
    found = {}
    for name, similarity in _SIMILARITIES.items():
        encoded = np.stack([encodings.ENCODERS[name](vector) for vector in vectors])
        order = _neighbours(similarity(encoded))
        shared = [len(set(ours) & set(theirs)) for ours, theirs in zip(order, reference, strict=True)]
        found[name] = (
            encoded[0].nbytes,
            float(np.mean(order[:, 0] == reference[:, 0])),
            float(np.mean(shared)) / _NEIGHBOURS,
        )
    return found


def _neighbours(similarity: Floats) -> np.ndarray:
    """(n, n) -> (n, 10): the nearest other rows, best first."""
    others = similarity.astype(np.float64)
    np.fill_diagonal(others, -np.inf)
    return np.argsort(-others, axis=1, kind="stable")[:, :_NEIGHBOURS]


def _dot(encoded: np.ndarray) -> Floats:
    numbers = encoded.astype(np.float32)
    return numbers @ numbers.T


def _equal_bits(packed: np.ndarray) -> Floats:
    bits = np.unpackbits(packed, axis=1).astype(np.float32)
    return _dot(2 * bits - 1)


_SIMILARITIES: Mapping[str, Callable[[np.ndarray], Floats]] = {
    "float": _dot,
    "int8": _dot,
    "uint8": lambda encoded: _dot(encoded / 127.5 - 1),
    "ubinary": _equal_bits,
}
"""`binary` is `ubinary` minus 128, so its distances are the same."""


if __name__ == "__main__":
    main()
