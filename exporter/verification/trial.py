"""Variants of one tower's graph, each written, loaded and run as it would be served: how right, how fast."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from siglip_edge.exporter.calibration import Row
from siglip_edge.exporter.graphs.kernel_profile import profile
from siglip_edge.exporter.int8.qdq import linear_nodes, quantize
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.scoring import l2_normalize

Floats = NDArray[np.float32]

_TIMED_RUNS = 5
_TURNS = 9
_COMPARED_S = 2.0
"""Variants take at least so many turns, and turns for so long: a small tower's forward is all noise."""


def serving_plan(precision: Precision, threads: int | None = None) -> ExecutionPlan:
    """How a graph is verified: as it is served on this machine's CPU."""
    return ExecutionPlan(
        provider=CPU,
        precision=precision,
        intra_op_threads=threads or read_cpu_budget().cores,
        rows_per_run=1,
        reason="verified as served",
    )


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`model`'s large weights lie in `directory` (`graphs.bare`), so that a variant is written in no time."""

    name: str
    """The tower's."""
    model: onnx.ModelProto
    directory: Path
    rows: Sequence[Row]
    """The graph's own inputs."""
    reference: Floats
    """(n, d) unit rows: FP32's embeddings of `rows`."""
    quantize: Callable[[onnx.ModelProto, Mapping[str, Any]], onnx.ModelProto] = quantize
    """(`model`, how each named linear node is computed) -> a variant."""

    def on_every(self, step: int) -> Trial:
        return replace(self, rows=self.rows[::step], reference=self.reference[::step])

    def loss(self, recipes: Mapping[str, Any]) -> float:
        """1 - mean cosine to FP32, with those nodes quantized. NaN counts as 1."""
        with self._written(recipes) as path:
            session = GraphSession(path, serving_plan(Precision.INT8))
            pooled = np.concatenate([session.run(row[None]) for row in self.rows])
        cosines = np.sum(l2_normalize(pooled) * self.reference, axis=1, dtype=np.float64)
        return float(1 - np.nan_to_num(cosines).mean())

    def forward_ms(self, variants: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Least CPU time of one row on one thread, a variant; they take turns, so that drift meets all of them."""
        sessions = {name: self._session(recipes) for name, recipes in variants.items()}
        taken: dict[str, list[float]] = {name: [] for name in variants}
        ending = time.monotonic() + _COMPARED_S
        while min(map(len, taken.values())) < _TURNS or time.monotonic() < ending:
            for name in sorted(sessions, key=lambda _: random.random()):  # noqa: S311 - who ran before leaves a mark
                started = time.process_time()
                sessions[name].run(self.rows[0][None])
                taken[name].append(1000 * (time.process_time() - started))
        return {name: min(times) for name, times in taken.items()}

    def _session(self, recipes: Mapping[str, Any]) -> GraphSession:
        with self._written(recipes) as path:
            return GraphSession(path, serving_plan(Precision.INT8, threads=1))

    def milliseconds(self, recipes: Mapping[str, Any]) -> dict[str, float]:
        """Linear node -> its time on one thread, with what feeds it codes if it is quantized."""
        with self._written(recipes) as path:
            kernels = profile(path, serving_plan(Precision.INT8, threads=1), self.rows[0], _TIMED_RUNS)
        return {
            node.name: sum(kernel.ms for kernel in kernels if f"{kernel.name}/".startswith(f"{node.name}/"))
            for node in linear_nodes(self.model.graph)
        }

    @contextmanager
    def _written(self, recipes: Mapping[str, Any]) -> Iterator[Path]:
        path = self.directory / "variant.onnx"
        onnx.save(self.quantize(self.model, recipes), path)
        try:
            yield path
        finally:
            path.unlink()
