"""One graph on one execution provider: rows -> rows. The only importer of onnxruntime, exporter aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.errors import ArtifactCorrupt, ProviderUnavailable
from runtime.providers import ExecutionPlan

Floats = NDArray[np.float32]

onnxruntime.set_default_logger_severity(3)  # its warnings are about graph internals; failures raise


def available_providers() -> tuple[str, ...]:
    """onnxruntime's execution providers in this environment, by its own names."""
    return tuple(onnxruntime.get_available_providers())


def session_options(plan: ExecutionPlan) -> onnxruntime.SessionOptions:
    """The options that serve, and therefore the options that verify: fidelity measured under others proves nothing."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    spinning = "1" if plan.allow_spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    # The arena grows to the largest batch ever seen and never shrinks; plain malloc gives memory back.
    options.enable_cpu_mem_arena = False
    return options


class GraphSession:
    """A loaded graph with one input and one output, both batched on the first axis."""

    def __init__(self, graph: Path, plan: ExecutionPlan) -> None:
        """Load; raises ProviderUnavailable when onnxruntime silently fell back, ArtifactCorrupt when it cannot read."""
        wanted = [(plan.provider, dict(plan.provider_options))]
        try:
            self._session = onnxruntime.InferenceSession(graph, session_options(plan), providers=wanted)
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise ArtifactCorrupt(f"{graph}: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
        if self._session.get_providers()[0] != plan.provider:
            message = f"{plan.provider} was planned but onnxruntime gave {self._session.get_providers()[0]}"
            raise ProviderUnavailable(message)
        self._input = self._session.get_inputs()[0].name
        self._rows_per_run = plan.rows_per_run

    def run(self, rows: NDArray[np.generic]) -> Floats:
        """(n, ...) -> (n, d) float32, n >= 1."""
        step = self._rows_per_run or len(rows)
        parts = [self._run(rows[start : start + step]) for start in range(0, len(rows), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, rows: NDArray[np.generic]) -> Floats:
        (pooled,) = self._session.run(None, {self._input: rows})
        return np.asarray(pooled, np.float32)
