"""Rows through a graph file, in the session options that serve it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.reproducible import side_by_side
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.checks.kernels import with_right_products
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan, adds_in_32_bits
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.rows import Arrays


def serving_plan(precision: Precision, threads: int = 1) -> ExecutionPlan:
    """How a graph is verified: as it is served on a CPU, on one thread, so that the bits are the same everywhere."""
    plan = ExecutionPlan(
        provider=CPU,
        precision=precision,
        intra_op_threads=threads,
        signed_products=precision is Precision.INT8 and adds_in_32_bits(read_cpu_budget()),
        reason="verified as served",
    )
    return with_right_products(plan)


def run_rows(graph: Path, precision: Precision, batches: Iterable[Arrays]) -> NDArray[np.float32]:
    """Pooled outputs of batches of the graph's own inputs, (n, d)."""
    session = GraphSession(graph, serving_plan(precision))
    return np.concatenate(list(side_by_side(session.run, batches)))
