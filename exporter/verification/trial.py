"""Variants of one tower's graph, each written, loaded and run as it would be served: how much fidelity each loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from siglip_edge.exporter.int8.qdq import quantize
from siglip_edge.exporter.verification.served_rows import run_rows
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.scoring import l2_normalize

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`model`'s large weights lie in `directory` (`graph_files.bare`), so that a variant is written in no time."""

    name: str
    """The tower's."""
    model: onnx.ModelProto
    directory: Path
    rows: Sequence[Arrays]
    """The graph's own inputs, a batch of one row each."""
    reference: Floats
    """(n, d) unit rows: FP32's embeddings of `rows`."""
    quantize: Callable[[onnx.ModelProto, Mapping[str, Any]], onnx.ModelProto] = quantize
    """(`model`, how each named linear node is computed) -> a variant."""

    def on_every(self, step: int) -> Trial:
        return replace(self, rows=self.rows[::step], reference=self.reference[::step])

    def variant(self, recipes: Mapping[str, Any]) -> onnx.ModelProto:
        """With those nodes quantized."""
        return self.quantize(self.model, recipes)

    def loss(self, recipes: Mapping[str, Any]) -> float:
        """1 - mean cosine to FP32, with those nodes quantized. NaN counts as 1."""
        with self._written(recipes) as path:
            pooled = run_rows(path, Precision.INT8, self.rows)
        cosines = np.sum(l2_normalize(pooled) * self.reference, axis=1, dtype=np.float64)
        return float(1 - np.nan_to_num(cosines).mean())

    @contextmanager
    def _written(self, recipes: Mapping[str, Any]) -> Iterator[Path]:
        path = self.directory / "variant.onnx"
        onnx.save(self.variant(recipes), path)
        try:
            yield path
        finally:
            path.unlink()
