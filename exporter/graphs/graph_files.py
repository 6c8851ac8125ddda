"""ONNX graphs on disk: simplified, saved whole or with their weights beside them, recorded."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
from onnx.external_data_helper import convert_model_to_external_data, write_external_data_tensors

EXTERNAL_ABOVE = 1_800_000_000
"""Bytes: a protobuf message ends at 2 GiB, and the graph around the weights needs room."""

LARGE = 1 << 16
"""Bytes: weights of matrices, not biases or the vectors of a LayerNorm."""


def simplify(path: Path) -> onnx.ModelProto:
    """Load a traced graph with constants folded and dead nodes gone; standard operators only.

    onnxruntime's own BASIC level does it: portable by definition, and the very code that will run the graph.
    """
    simplified = path.with_suffix(".basic.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(simplified)
    if _external(path):
        key = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(key, simplified.name + ".data")
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = load(simplified)
    domains = {node.domain for node in model.graph.node}
    imports = [entry for entry in model.opset_import if entry.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    _unshare_vectors(model.graph)
    remove(simplified)
    return model


def _unshare_vectors(graph: onnx.GraphProto) -> None:
    """Give every reader of a vector its own: the tracer merges equal biases, and later steps rewrite one node's."""
    vectors = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 1}
    seen: set[str] = set()
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in seen:
                copy = graph.initializer.add()
                copy.CopyFrom(vectors[name])
                copy.name = node.input[index] = f"{node.name}/{index}"
            elif name in vectors:
                seen.add(name)


def load(path: Path) -> onnx.ModelProto:
    return onnx.load(path, load_external_data=True)


def save(model: onnx.ModelProto, path: Path) -> list[Path]:
    """Write one file, or two where protobuf's 2 GiB would not hold it: `path` and `path.data`."""
    if model.ByteSize() <= EXTERNAL_ABOVE:
        onnx.save(model, path)
        return [path]
    data = path.with_name(path.name + ".data")
    onnx.save(model, path, save_as_external_data=True, location=data.name)
    onnx.load_external_data_for_model(model, str(path.parent))  # saving moved the weights out of `model`
    return [path, data]


def bare(model: onnx.ModelProto, data: Path) -> onnx.ModelProto:
    """A copy whose large weights lie in the file `data`, which any number of variants saved beside it may share."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    convert_model_to_external_data(copy, location=data.name, size_threshold=LARGE)
    return write_external_data_tensors(copy, str(data.parent))


def whole(model: onnx.ModelProto, directory: Path) -> onnx.ModelProto:
    """`model` with the weights that still lie beside it, in `directory`, read in."""
    onnx.load_external_data_for_model(model, str(directory))
    return model


def remove(path: Path) -> None:
    """Delete a graph and whatever holds its weights."""
    for file in (path, *_external(path)):
        file.unlink(missing_ok=True)


def _external(path: Path) -> list[Path]:
    model = onnx.load(path, load_external_data=False)
    names = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    return [path.parent / name for name in sorted(names)]
