"""FP32 graph -> static INT8 in QDQ form. Linear layers only; everything else stays in float.

Why so (DESIGN.md §2, measured): products of two activations lose more than they gain and trip an onnxruntime fusion
in attention pooling; Softmax and LayerNorm in float cost 2 % of the time. Static, because a dynamic scale spans the
whole batch, so that neighbours would change an answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.calibration import Histogram

WEIGHT_LIMIT = 63
"""Weights use 7 bits: AVX2 without VNNI adds two uint8 x int8 products in a saturating int16, 2·255·64 < 2^15."""

SMALLEST = 4096
"""Weights with fewer values stay in float: nothing to gain."""


def linear_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The quantizable nodes: products of an activation with a constant matrix."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    return [
        node
        for node in graph.node
        if node.op_type == "MatMul" and (weight := weights.get(node.input[1])) is not None
        if len(weight.dims) == 2 and np.prod(weight.dims) >= SMALLEST
    ]


def quantize(model: onnx.ModelProto, histograms: Mapping[str, Histogram]) -> onnx.ModelProto:
    """A copy in QDQ form. `histograms` holds every linear node's input activation, by tensor name."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    added: list[onnx.NodeProto] = []
    activations: dict[str, str] = {}
    for node in linear_nodes(graph):
        activation, weight = node.input[0], node.input[1]
        if activation not in activations:
            activations[activation] = _quantize_activation(graph, added, activation, histograms[activation])
        node.input[0] = activations[activation]
        node.input[1] = _quantize_weight(graph, added, weights[weight])
    _drop_unused(graph)
    _insert(graph, added)
    return quantized


def _quantize_activation(graph: onnx.GraphProto, added: list[onnx.NodeProto], name: str, seen: Histogram) -> str:
    """Q and DQ around one activation, asymmetric uint8 a tensor; zero is exact, as padding and GELU tails need."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    scale = max(high - low, 1e-12) / 255.0
    parameters = _constants(
        graph, name, np.asarray(scale, np.float32), np.asarray(np.clip(np.rint(-low / scale), 0, 255), np.uint8)
    )
    added.append(helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}_q"], f"{name}/QuantizeLinear"))
    added.append(
        helper.make_node("DequantizeLinear", [f"{name}_q", *parameters], [f"{name}_dq"], f"{name}/DequantizeLinear")
    )
    return f"{name}_dq"


def _quantize_weight(graph: onnx.GraphProto, added: list[onnx.NodeProto], tensor: TensorProto) -> str:
    """(k, n) -> symmetric int8, one scale an output channel (column)."""
    name, weight = tensor.name, numpy_helper.to_array(tensor)
    scale = np.maximum(np.abs(weight).max(axis=0) / WEIGHT_LIMIT, np.finfo(np.float32).tiny).astype(np.float32)
    values = np.clip(np.rint(weight / scale), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
    if f"{name}_q" not in {initializer.name for initializer in graph.initializer}:
        graph.initializer.append(numpy_helper.from_array(values, f"{name}_q"))
        parameters = _constants(graph, name, scale, np.zeros(len(scale), np.int8))
        added.append(
            helper.make_node(
                "DequantizeLinear", [f"{name}_q", *parameters], [f"{name}_dq"], f"{name}/Dequantize", axis=1
            )
        )
    return f"{name}_dq"


def _constants(
    graph: onnx.GraphProto, name: str, scale: NDArray[np.float32], zero_point: NDArray[np.generic]
) -> list[str]:
    names = [f"{name}_scale", f"{name}_zero_point"]
    graph.initializer.extend(map(numpy_helper.from_array, (scale, zero_point), names))
    return names


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [
        tensor
        for tensor in graph.initializer
        if tensor.name in used or tensor.name.endswith(("_q", "_scale", "_zero_point"))
    ]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _insert(graph: onnx.GraphProto, added: list[onnx.NodeProto]) -> None:
    """Put every new node right before its first reader: ONNX wants topological order."""
    producer = {output: node for node in added for output in node.output}
    ordered: list[onnx.NodeProto] = []
    placed: set[str] = set()

    def place(name: str) -> None:
        node = producer.get(name)
        if node is None or name in placed:
            return
        placed.add(name)
        place(node.input[0])
        ordered.append(node)

    for node in graph.node:
        for name in node.input:
            place(name)
        ordered.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(nodes)
