"""Shorter vectors of unit length, by a learned rotation or by a checkpoint trained for it (Matryoshka). Pure.

An embedding of full length is not rotated, so that an index made with other tools stays valid. File layout of a
rotation: (d, d) little-endian float32, one direction per row.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import Manifest, MatryoshkaSpec, RotationSpec
from siglip_edge.runtime.errors import ArtifactCorrupt, UnsupportedInput
from siglip_edge.runtime.scoring import l2_normalize

Floats = NDArray[np.float32]


class Shortening(Protocol):
    """A way to shorten embeddings."""

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) unit float32 -> (n, dimensions) unit float32. Raises UnsupportedInput (param `dimensions`)."""
        ...


class Rotation:
    """The first coordinates in a rotated basis, whose first directions keep most of the distances."""

    def __init__(self, directions: Floats) -> None:
        """`directions`: (d, d) float32, one direction per row."""
        self._directions = directions

    @classmethod
    def load(cls, directory: Path, spec: RotationSpec, dimensions: int) -> Rotation:
        """Map the file. Raises ArtifactCorrupt when its shape is not (dimensions, dimensions)."""
        path = directory / spec.file.path
        if path.stat().st_size != 4 * dimensions**2:
            raise ArtifactCorrupt(f"{path}: holds not {dimensions} x {dimensions} float32 values; run the export again")
        return cls(np.memmap(path, "<f4", mode="r", shape=(dimensions, dimensions)))

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) unit float32 -> (n, dimensions) unit float32, row by row: a row's bits do not depend on the others."""
        native = len(self._directions)
        if not 0 < dimensions < native:
            raise _refused(dimensions, f"1 to {native}")
        directions = self._directions[:dimensions]
        return l2_normalize(np.stack([directions @ embedding for embedding in embeddings]))


class Matryoshka:
    """The first coordinates unchanged, at the lengths that the checkpoint was trained for."""

    def __init__(self, spec: MatryoshkaSpec, native: int) -> None:
        self._lengths, self._native = spec.lengths, native

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) unit float32 -> (n, dimensions) unit float32."""
        if dimensions not in self._lengths:
            raise _refused(dimensions, ", ".join(map(str, sorted({*self._lengths, self._native}))))
        return l2_normalize(embeddings[:, :dimensions])


class NativeOnly:
    """No shortening: the model was exported without it."""

    def __init__(self, native: int) -> None:
        self._native = native

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:  # noqa: ARG002 - the contract's signature
        raise _refused(dimensions, f"{self._native} only: this model was exported without a rotation")


def load_shortening(directory: Path, manifest: Manifest, checksums: ChecksumCache) -> Shortening:
    """The shortening that the manifest names. Raises ArtifactCorrupt."""
    spec = manifest.shortening
    if isinstance(spec, RotationSpec):
        checksums.verify(directory, spec.file)
        return Rotation.load(directory, spec, manifest.dimensions)
    return Matryoshka(spec, manifest.dimensions) if spec else NativeOnly(manifest.dimensions)


def _refused(dimensions: int, allowed: str) -> UnsupportedInput:
    return UnsupportedInput(f"dimensions={dimensions}: this model gives {allowed}", param="dimensions")
