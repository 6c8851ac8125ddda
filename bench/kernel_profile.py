"""The time of each kernel of a graph, from the profiler of onnxruntime, after its fusions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import onnxruntime

from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.execution.session import session_options
from siglip_edge.runtime.rows import Arrays


@dataclass(frozen=True)
class Kernel:
    """A node of the optimized graph. A fused node has the name of its first node, with a suffix."""

    name: str
    operator: str
    ms: float
    """Least milliseconds of all runs, because other work on the machine can only add time."""


def profile(graph: Path, plan: ExecutionPlan, batch: Arrays, runs: int) -> list[Kernel]:
    """Profile `runs` forwards of `batch` with the session options of the server. -> every kernel of `graph`."""
    with TemporaryDirectory() as scratch:
        options = session_options(plan)
        options.enable_profiling, options.profile_file_prefix = True, f"{scratch}/profile"
        providers = [(plan.provider, dict(plan.provider_options))]
        session = onnxruntime.InferenceSession(graph, options, providers=providers)
        for _ in range(runs):
            session.run(None, dict(batch))
        events = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name, kernel, _ = event["name"].partition("_kernel_time")
        if kernel:
            taken[name, event["args"]["op_name"]].append(event["dur"] / 1000)
    return [Kernel(name, operator, min(times)) for (name, operator), times in taken.items()]


def by_operator(kernels: list[Kernel]) -> Mapping[str, tuple[int, float]]:
    """-> operator -> number of its kernels, and their milliseconds together."""
    sums: dict[str, tuple[int, float]] = {}
    for kernel in kernels:
        count, ms = sums.get(kernel.operator, (0, 0.0))
        sums[kernel.operator] = (count + 1, ms + kernel.ms)
    return sums
