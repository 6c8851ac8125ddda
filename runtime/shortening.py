"""Shorter vectors: an orthogonal basis whose first directions hold most of the space.

Only shortened vectors are rotated. At full length an embedding is the checkpoint's own, digit for digit, so that an
index made with other tools stays valid. File layout: (d, d) little-endian float32, one direction a row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.manifest import RotationSpec
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.scoring import l2_normalize

Floats = NDArray[np.float32]


class Rotation:
    """`shorten(embeddings, k)`: the first k coordinates in the learned basis, of unit length again."""

    def __init__(self, directions: Floats) -> None:
        self._directions = directions

    @classmethod
    def load(cls, directory: Path, spec: RotationSpec, dimensions: int) -> Rotation:
        """Map the file. Raises ArtifactCorrupt when it is not (dimensions, dimensions)."""
        path = directory / spec.file.path
        if path.stat().st_size != 4 * dimensions**2:
            raise ArtifactCorrupt(f"{path}: not {dimensions} x {dimensions} float32 values; run the export again")
        return cls(np.memmap(path, "<f4", mode="r", shape=(dimensions, dimensions)))

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) unit float32 -> (n, dimensions) unit float32. Row by row: bits do not depend on the neighbours."""
        directions = self._directions[:dimensions]
        return l2_normalize(np.stack([directions @ embedding for embedding in embeddings]))
