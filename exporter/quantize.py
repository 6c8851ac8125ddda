"""FP32 graph -> static INT8 in QDQ form. Linear layers only; everything else stays in float.

Why so (DESIGN.md §2, measured): products of two activations lose more than they gain and trip an onnxruntime fusion
in attention pooling; Softmax and LayerNorm in float cost 2 % of the time. Static, because a dynamic scale spans the
whole batch, so that neighbours would change an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporter.ranges import affine
from exporter.recipes import Recipe
from exporter.smoothing import divide

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


def quantize(model: onnx.ModelProto, recipes: Mapping[str, Recipe]) -> onnx.ModelProto:
    """A copy in QDQ form: the linear nodes that `recipes` names are computed in INT8, all others as they were.

    The weights of `model` are not read, so they may be anywhere (`graphs.bare`).
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph, nodes = quantized.graph, list(quantized.graph.node)
    for node in linear_nodes(graph):
        if node.name in recipes:
            at = nodes.index(node)
            nodes[at:at] = _in_codes(graph, node, recipes[node.name])
    _replace_nodes(graph, nodes)
    drop_unused(graph)
    return quantized


def _in_codes(graph: onnx.GraphProto, node: onnx.NodeProto, recipe: Recipe) -> list[onnx.NodeProto]:
    """Give `node` inputs that went through uint8 and int8. -> the nodes that make them."""
    activation, before = divide(graph, node, recipe.smoothing) if recipe.smoothing is not None else (node.input[0], [])
    scale, zero = affine(recipe.span)
    own = f"{node.name}/activation"
    parameters = _constants(graph, own, np.asarray(scale), np.asarray(zero))
    codes = f"{node.name}/weight_codes"
    graph.initializer.append(numpy_helper.from_array(recipe.weight, codes))
    weight = _constants(graph, f"{node.name}/weight", recipe.scale, np.zeros(len(recipe.scale), np.int8))
    node.input[:] = [f"{own}_dq", f"{node.name}/weight_dq"]
    return [
        *before,
        helper.make_node("QuantizeLinear", [activation, *parameters], [f"{own}_codes"], f"{own}/Quantize"),
        helper.make_node("DequantizeLinear", [f"{own}_codes", *parameters], [f"{own}_dq"], f"{own}/Dequantize"),
        helper.make_node(
            "DequantizeLinear", [codes, *weight], [f"{node.name}/weight_dq"], f"{node.name}/weight/Dequantize", axis=1
        ),
    ]


def _constants(
    graph: onnx.GraphProto, name: str, scale: NDArray[np.float32], zero_point: NDArray[np.generic]
) -> list[str]:
    names = [f"{name}_scale", f"{name}_zero_point"]
    graph.initializer.extend(map(numpy_helper.from_array, (scale, zero_point), names))
    return names


def _replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
