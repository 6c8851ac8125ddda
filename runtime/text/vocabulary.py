"""The token embedding table, outside the graph and on disk: each text reads only the rows of its tokens.

File layout, little-endian: `rows * width` values in row order, then, for int8, `rows` float32 scales.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.manifest import VocabularySpec
from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import TOKEN_EMBEDDINGS, TOKEN_IDS

Floats = NDArray[np.float32]

_BLOCK = 4096
"""Rows quantized at once, so that writing a table of 256 000 rows takes megabytes instead of a second copy."""


class RowFile:
    """Rows of a table on disk, read by position; the page cache keeps the rows in use.

    The file is read, not mapped: the kernel maps sixteen pages around each touched row, so that after some hundred
    texts half of a table of 256 000 rows would be resident in every worker.
    """

    def __init__(self, path: Path, dtype: np.dtype[np.generic], shape: tuple[int, int]) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._dtype = dtype
        self._rows, self._width = shape
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, ids: NDArray[np.integer]) -> NDArray[np.generic]:
        """Ids (...) -> rows (..., width) in the table's dtype. Raises IndexError for an id outside the table."""
        unique, places = np.unique(ids, return_inverse=True)
        rows = np.empty((len(unique), self._width), self._dtype)
        for row, index in zip(rows, unique.tolist(), strict=True):
            if not 0 <= index < self._rows:
                raise IndexError(f"{index} is no row of {self._path}, which has {self._rows}")
            os.preadv(self._file, [row.data], index * row.nbytes)
        found: NDArray[np.generic] = rows[places.reshape(ids.shape)]
        return found


class Vocabulary:
    """Token ids -> token embeddings. Thread-safe."""

    def __init__(self, table: RowFile | NDArray[np.generic], scales: Floats | None) -> None:
        self._table = table
        self._scales = scales

    @classmethod
    def load(cls, directory: Path, spec: VocabularySpec) -> Vocabulary:
        """Open the file without reading a row. Raises ArtifactCorrupt when its size does not fit `spec`."""
        path = directory / spec.file.path
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        table_size = spec.rows * spec.width * dtype.itemsize
        expected = table_size + (4 * spec.rows if spec.dtype == "int8" else 0)
        if path.stat().st_size != expected:
            message = f"{path}: has {path.stat().st_size} bytes, its shape needs {expected}; run the export again"
            raise ArtifactCorrupt(message)
        table = RowFile(path, dtype, (spec.rows, spec.width))
        scales = None
        if spec.dtype == "int8":
            scales = np.memmap(path, "<f4", mode="r", offset=table_size, shape=(spec.rows,))
        return cls(table, scales)

    @property
    def rows(self) -> int:
        """Number of rows; token ids are 0 to `rows` - 1."""
        return len(self._table)

    def lookup(self, ids: NDArray[np.integer]) -> Floats:
        """(n, length) int64 -> (n, length, width) float32."""
        rows: Floats = self._table[ids].astype(np.float32)
        if self._scales is not None:
            rows *= self._scales[ids][..., None]
        return rows


def graph_inputs(batch: Arrays, vocabulary: Vocabulary | None) -> dict[str, NDArray[np.generic]]:
    """A batch of rows -> the inputs of the graph: token ids become embeddings when the vocabulary is outside it."""
    if vocabulary is None or TOKEN_IDS not in batch:
        return dict(batch)
    others = {name: array for name, array in batch.items() if name != TOKEN_IDS}
    return {TOKEN_EMBEDDINGS: vocabulary.lookup(batch[TOKEN_IDS].astype(np.int64, copy=False)), **others}


def write_vocabulary(file: BinaryIO, table: Floats, dtype: str) -> None:
    """Write `table`, (rows, width) float32, in the layout above.

    int8 is symmetric with one scale per row, scale = max|row| / 127, so the error of a value is at most scale / 2.
    """
    if dtype != "int8":
        file.writelines(block.astype(np.dtype(dtype).newbyteorder("<")).tobytes() for block in _blocks(table))
        return
    scales = np.maximum(np.abs(table).max(axis=1) / 127.0, np.finfo(np.float32).tiny).astype("<f4")
    for start, block in zip(range(0, len(table), _BLOCK), _blocks(table), strict=True):
        scaled = np.rint(block / scales[start : start + _BLOCK, None])
        file.write(np.clip(scaled, -127, 127).astype(np.int8).tobytes())
    file.write(scales.tobytes())


def _blocks(table: Floats) -> list[Floats]:
    return [table[start : start + _BLOCK] for start in range(0, len(table), _BLOCK)]
