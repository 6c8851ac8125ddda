"""One graph on one execution provider: a batch to pooled outputs. The only importer of onnxruntime, exporter aside."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from siglip_edge.runtime.errors import ArtifactCorrupt, ProviderUnavailable
from siglip_edge.runtime.execution.plan import OPENVINO, ExecutionPlan
from siglip_edge.runtime.rows import Arrays

Floats = NDArray[np.float32]
_DYNAMIC_AXIS = 4

PACKING = {
    "session.save_external_prepacked_constant_initializers": "1",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}
_WEIGHTS_FILE = "session.optimized_model_external_initializers_file_name"

# A thread that OpenVINO pins to a core waits there for whoever else is pinned to it: the other tower, another worker.
# And on a CPU with bfloat16 it would compute float parts in 8 bits of mantissa, which no artifact was verified with.
_OPENVINO_ON_CPU = json.dumps({"CPU": {"ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}})

onnxruntime.set_default_logger_severity(3)  # its warnings are about graph internals; failures raise


def available_providers() -> tuple[str, ...]:
    """onnxruntime's execution providers in this environment, by its own names."""
    return tuple(onnxruntime.get_available_providers())


def build() -> str:
    """Which onnxruntime this is: the version, and what it was built from and with."""
    return f"{onnxruntime.__version__} {onnxruntime.get_build_info()}"


def session_options(plan: ExecutionPlan) -> onnxruntime.SessionOptions:
    """The options that serve, and therefore the options that verify: fidelity measured under others proves nothing."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    spinning = "1" if plan.allow_spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    # Base towers, one row a run, in one process: buffers planned ahead (pattern, reuse) cost 100 ms of planning a tower
    # at load and are kept in one piece; a plain arena finds the same buffers as it goes. Against no arena at all, 25 MB
    # instead of 48 stay allocated and the first run is a third shorter; later runs take the same time.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    return options


def provider_options(plan: ExecutionPlan) -> dict[str, str]:
    """The plan's own, and what OpenVINO has to be told apart from `session_options`: it starts its own threads."""
    options = dict(plan.provider_options)
    if plan.provider == OPENVINO and options.get("device_type") == "CPU":
        options |= {"num_of_threads": str(plan.intra_op_threads), "load_config": _OPENVINO_ON_CPU}
    return options


def packed_options(plan: ExecutionPlan) -> onnxruntime.SessionOptions:
    """The options for a graph written by `write_packed`: every optimization is in the file already."""
    options = session_options(plan)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def write_packed(graph: Path, plan: ExecutionPlan, target: Path) -> None:
    """Save `graph` as this machine runs it: optimized, its weights, packed for the kernels, in `<target>.bin`.

    Right on this kind of CPU and this onnxruntime only. Raises like GraphSession.
    """
    options = session_options(plan)
    options.optimized_model_filepath = str(target)
    for key, value in PACKING.items():
        options.add_session_config_entry(key, value)
    options.add_session_config_entry(_WEIGHTS_FILE, f"{target.name}.bin")
    GraphSession(graph, plan, options)


class GraphSession:
    """A loaded graph: named inputs, batch axis first, to one output `pooled`."""

    def __init__(self, graph: Path, plan: ExecutionPlan, options: onnxruntime.SessionOptions | None = None) -> None:
        """Load; raises ProviderUnavailable when onnxruntime silently fell back, ArtifactCorrupt when it cannot read.

        `options`: those of `session_options` unless given.
        """
        if plan.provider not in available_providers():
            have = ", ".join(available_providers())
            raise ProviderUnavailable(f"{plan.provider} was planned but onnxruntime here offers {have} only")
        wanted = [(plan.provider, provider_options(plan))]
        try:
            self._session = onnxruntime.InferenceSession(graph, options or session_options(plan), providers=wanted)
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            raise ArtifactCorrupt(f"{graph}: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
        if self._session.get_providers()[0] != plan.provider:
            message = f"{plan.provider} was planned but onnxruntime gave {self._session.get_providers()[0]}"
            raise ProviderUnavailable(message)

    def run(self, batch: Arrays) -> Floats:
        """One batch, every input (n, ...) -> (n, d) float32, n >= 1."""
        (pooled,) = self._session.run(None, dict(batch))
        return np.asarray(pooled, np.float32)

    def shrink(self) -> None:
        """Free the buffers that runs have kept for the next ones. Safe beside runs."""
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        options.terminate = True  # an arena shrinks where a run ends, and this one ends before its first step
        with suppress(Fail):  # says that it was terminated
            self._session.run(None, self.noise(), options)

    def noise(self) -> dict[str, NDArray[np.generic]]:
        """One random row that the graph takes, batch axis first; always the same. A dynamic axis has length 4."""
        rng = np.random.default_rng(0)
        return {taken.name: _noise(taken, rng) for taken in self._session.get_inputs()}


def _noise(taken: onnxruntime.NodeArg, rng: np.random.Generator) -> NDArray[np.generic]:
    shape = (1, *(axis if isinstance(axis, int) else _DYNAMIC_AXIS for axis in taken.shape[1:]))
    if taken.type == "tensor(uint8)":
        return rng.integers(0, 256, shape, np.uint8)
    if taken.type == "tensor(int64)":  # ids and masks
        return np.ones(shape, np.int64)
    return rng.standard_normal(shape, np.float32)
