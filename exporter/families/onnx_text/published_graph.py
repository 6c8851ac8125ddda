"""The published graph of a text encoder: found, checked, and run as the reference."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto

from siglip_edge.exporter.errors import ExportError

GRAPHS = ("onnx/model.onnx", "model.onnx")
"""Where Optimum and sentence-transformers put a graph in FP32."""

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
HIDDEN = ("last_hidden_state", "token_embeddings")
"""The output that is read, as Optimum names it for a transformer and for a model of sentence-transformers."""

KNOWN_AS = "onnx_export"
"""`model_type` by which `families.family_of` asks for a graph."""

_KEPT_APART = (
    "AttentionFusion",
    "BiasGeluFusion",
    "BiasSoftmaxFusion",
    "EmbedLayerNormFusion",
    "GeluApproximation",
    "MatMulScaleFusion",
    "MatmulTransposeFusion",
    "SkipLayerNormFusion",
)
"""Fusions of onnxruntime that would join the parts that are to be read."""


def find_graph(directory: Path) -> Path | None:
    return next((path for name in GRAPHS if (path := directory / name).is_file()), None)


def prefers_graph(source: str) -> bool:
    """Whether there is no way but by a graph: PyTorch is not installed, or the directory has no weights of PyTorch."""
    if not (find_spec("torch") and find_spec("transformers") and find_spec("optimum")):
        return True
    directory = Path(source)
    has_weights = any(any(directory.glob(pattern)) for pattern in ("*.safetensors", "*.bin"))
    return find_graph(directory) is not None and not has_weights


def hidden_output(source: str, model: onnx.ModelProto) -> str:
    """The name of the hidden rows."""
    outputs = [value.name for value in model.graph.output]
    found = next((name for name in HIDDEN if name in outputs), None)
    if found is None:
        raise ExportError(f"{source}: its graph gives {', '.join(outputs)}; {' or '.join(HIDDEN)} is expected")
    return found


def check_graph(source: str, path: Path) -> None:
    """Raise ExportError unless the graph is one of float32, of standard operators, from ids to hidden rows."""
    graph = _described(source, path)
    inputs = [value.name for value in graph.graph.input]
    if not {IDS, MASK} <= set(inputs) <= {IDS, MASK, TYPES}:
        raise ExportError(f"{source}: {path.name} takes {', '.join(inputs)}; {IDS} and {MASK} are expected")
    hidden_output(source, graph)
    if domains := sorted({node.domain for node in graph.graph.node} - {"", "ai.onnx"}):
        raise ExportError(f"{source}: {path.name} has operators of {domains[0]}, an optimized or quantized graph")
    if any(tensor.data_type in {TensorProto.FLOAT16, TensorProto.BFLOAT16} for tensor in graph.graph.initializer):
        raise ExportError(f"{source}: {path.name} has weights in 16 bits; one in FP32 is expected")


def plain_form(source: str, path: Path) -> onnx.ModelProto:
    """The graph with constants folded, and LayerNorm and GELU as one operator each, however they were written."""
    with TemporaryDirectory() as folder:
        written = Path(folder, "plain.onnx")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(written)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "plain.data")
        _session(source, path, options, disabled_optimizers=list(_KEPT_APART))
        return onnx.load(written)


class PublishedGraph:
    """ids and mask, int64 (n, length) -> float32 (n, length, width), as onnxruntime computes it."""

    def __init__(self, source: str, path: Path) -> None:
        self._session = _session(source, path, onnxruntime.SessionOptions())
        (self._hidden,) = [value.name for value in self._session.get_outputs() if value.name in HIDDEN]
        self._inputs = [value.name for value in self._session.get_inputs()]

    def __call__(self, ids: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.float32]:
        given = {IDS: ids, MASK: mask, TYPES: np.zeros_like(ids)}
        (hidden,) = self._session.run([self._hidden], {name: given[name] for name in self._inputs})
        return np.asarray(hidden)


def run_graph(source: str, path: Path, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The only output of a graph."""
    (output,) = _session(source, path, onnxruntime.SessionOptions()).run(None, dict(inputs))
    return np.asarray(output)


def _described(source: str, path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises types of its own
        raise ExportError(f"{source}: {path.name} is no ONNX graph ({error})") from error


def _session(source: str, path: Path, options: onnxruntime.SessionOptions, **more: Any) -> onnxruntime.InferenceSession:
    options.log_severity_level = 3  # a remark on how the optimized file may be used
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], **more)
    except Exception as error:  # onnxruntime's errors share no base; external weights may be missing
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: onnxruntime cannot load {path.name} ({reason})") from error
