"""A graph on an execution provider: batch -> pooled outputs. Only this folder and exporter/ import onnxruntime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from siglip_edge.runtime.errors import ArtifactCorrupt, ProviderUnavailable
from siglip_edge.runtime.execution import openvino_plugin
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan
from siglip_edge.runtime.rows import Arrays

logger = logging.getLogger("siglip_edge")

Floats = NDArray[np.float32]
_MASK = "attention_mask"
_DYNAMIC_AXIS = 4
"""Length of a dynamic axis in a random row; any small number does."""
_GRID = "grid"
"""The input that says how a row's patches lie: rows and columns, as many as there are patches."""

_LONG_ROW = 1024
"""Tokens. The buffers of a run over a longer row (500 MB for 8 192 tokens of a large model) are returned after it."""

PACKING = {
    "session.save_external_prepacked_constant_initializers": "1",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}
"""Session entries that make onnxruntime write packed weights into a file beside the graph."""
_WEIGHTS_FILE = "session.optimized_model_external_initializers_file_name"

# Without pinning, because the threads of two towers or workers that are pinned to the same core would wait for each
# other. In float32, because OpenVINO would use bfloat16 where the CPU has it, and no artifact was verified with that.
_OPENVINO_ON_CPU = json.dumps({"CPU": {"ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}})

onnxruntime.set_default_logger_severity(3)  # errors only: warnings concern graph internals, and failures raise


def available_providers() -> tuple[str, ...]:
    """onnxruntime's names of the execution providers in this environment."""
    openvino_plugin.devices()  # registers the plugin, whose devices count
    return tuple(name for name in onnxruntime.get_available_providers() if "." not in name)  # no OpenVINO....AUTO


def version() -> str:
    """onnxruntime's version, as in "1.31.1"."""
    return str(onnxruntime.__version__)


def build() -> str:
    """onnxruntime's version and build information."""
    return f"{onnxruntime.__version__} {onnxruntime.get_build_info()}"


def session_options(plan: ExecutionPlan) -> onnxruntime.SessionOptions:
    """The options of every session. Serving and the exporter's fidelity checks must use the same options."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = plan.intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    spinning = "1" if plan.allow_spinning else "0"
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    options.add_session_config_entry("session.inter_op.allow_spinning", spinning)
    # By default onnxruntime makes int8 activations uint8 on x86, whose products take twice the time with VNNI.
    if plan.signed_products:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    # Buffers that are planned ahead (pattern, reuse) make loading slower and stay allocated in one piece. A plain arena
    # finds the same buffers during a run. Without an arena, more memory stays allocated and the first run is slower
    # (docs/memory.md).
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    options.enable_mem_reuse = False
    return options


def provider_options(plan: ExecutionPlan) -> dict[str, str]:
    """The plan's provider options, and OpenVINO's threads, because OpenVINO ignores those in `session_options`."""
    options = dict(plan.provider_options)
    if plan.provider == OPENVINO and options.get("device_type") == "CPU":
        options |= {"num_of_threads": str(plan.intra_op_threads), "load_config": _OPENVINO_ON_CPU}
    return options


def packed_options(plan: ExecutionPlan) -> onnxruntime.SessionOptions:
    """The options for a packed graph: without optimizations, because `write_packed` has applied them."""
    options = session_options(plan)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def write_packed(graph: Path, plan: ExecutionPlan, target: Path) -> None:
    """Save the optimized `graph` as `target`, and its weights, packed for this CPU's kernels, as `<target>.bin`.

    The files are valid only on this kind of CPU and with this build of onnxruntime. Raises like GraphSession.
    """
    options = session_options(plan)
    options.optimized_model_filepath = str(target)
    for key, value in PACKING.items():
        options.add_session_config_entry(key, value)
    options.add_session_config_entry(_WEIGHTS_FILE, f"{target.name}.bin")
    GraphSession(graph, plan, options)


class GraphSession:
    """A loaded graph. It takes named inputs, batch axis first, and has one output, `pooled`."""

    def __init__(self, graph: Path, plan: ExecutionPlan, options: onnxruntime.SessionOptions | None = None) -> None:
        """Load `graph`. `options`: `session_options(plan)` when None.

        Raises ProviderUnavailable when onnxruntime does not use the planned provider, ArtifactCorrupt when onnxruntime
        cannot load the graph.
        """
        if plan.provider not in available_providers():
            have = ", ".join(available_providers())
            message = f"{plan.provider} was planned but onnxruntime here offers {have} only; set DEVICE=cpu"
            raise ProviderUnavailable(message)
        options = options or session_options(plan)
        wanted = _wanted(plan, options)
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=wanted)
        except Exception as error:  # onnxruntime's exceptions share no other base class
            raise ArtifactCorrupt(f"{graph}: onnxruntime {onnxruntime.__version__} cannot load it: {error}") from error
        self._returns_buffers = plan.provider == CPU
        if self._session.get_providers()[0] != plan.provider:
            used = self._session.get_providers()[0]
            message = f"onnxruntime uses {used} in place of {plan.provider}; install its libraries or set DEVICE=cpu"
            raise ProviderUnavailable(message)

    def run(self, batch: Arrays) -> Floats:
        """One batch, each input (n, ...) with n >= 1 -> pooled outputs, (n, d) float32."""
        options = _shrinking() if self._returns_buffers and _longest(batch) > _LONG_ROW else None
        (pooled,) = self._session.run(None, dict(batch), options)
        return np.asarray(pooled, np.float32)

    def shrink(self) -> None:
        """Free the buffers that the session keeps between runs. Safe while other runs are under way."""
        options = _shrinking()
        options.terminate = True  # the arena shrinks at the end of a run, and this run ends at once
        with contextlib.suppress(Fail):  # reports the termination
            self._session.run(None, self.noise(), options)

    def noise(self) -> dict[str, NDArray[np.generic]]:
        """A batch of one random row that the graph accepts; the same row in every call."""
        rng = np.random.default_rng(0)
        return {taken.name: _noise(taken, rng) for taken in self._session.get_inputs()}


def _shrinking() -> onnxruntime.RunOptions:
    """A run after which the arena returns what no run uses."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _longest(batch: Arrays) -> int:
    """Tokens of the batch's rows; 0 of a graph without a mask, whose rows are all of one length."""
    mask = batch.get(_MASK)
    return 0 if mask is None else mask.shape[1]


def _wanted(plan: ExecutionPlan, options: onnxruntime.SessionOptions) -> list[tuple[str, dict[str, str]]] | None:
    """The providers of a session, or None when `options` got the device of a plugin. Raises ProviderUnavailable."""
    settings = provider_options(plan)
    if plan.provider == CUDA:
        _load_cuda()
    if plan.provider != OPENVINO or not openvino_plugin.devices():
        return [(plan.provider, settings)]
    options.add_provider_for_devices([openvino_plugin.device(settings.pop("device_type"))], settings)
    return None


@cache
def _load_cuda() -> None:
    """Load CUDA and cuDNN from NVIDIA's pip packages, which no search path of the loader covers, or from the system.

    onnxruntime prints what it cannot load; that goes to the log.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls()
    for line in printed.getvalue().splitlines():
        logger.warning("CUDA: %s", line)


def _noise(taken: onnxruntime.NodeArg, rng: np.random.Generator) -> NDArray[np.generic]:
    shape = (1, *(axis if isinstance(axis, int) else _DYNAMIC_AXIS for axis in taken.shape[1:]))
    if taken.type == "tensor(uint8)":
        return rng.integers(0, 256, shape, np.uint8)
    if taken.name == _GRID:
        return np.array([[1, _DYNAMIC_AXIS]], np.int64)
    if taken.type == "tensor(int64)":  # ids and masks
        return np.ones(shape, np.int64)
    return rng.standard_normal(shape, np.float32)
