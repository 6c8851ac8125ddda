"""FP32 graph -> static INT8 in QDQ form. Linear layers; `attention` adds the products of two activations.

Softmax and LayerNorm in float cost 6 % of the time (`bench.operators`). Scales are static: a dynamic scale spans the
whole batch, so neighbours would change an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from siglip_edge.exporter.int8.layer_quantization import Recipe
from siglip_edge.exporter.int8.ranges import affine
from siglip_edge.exporter.int8.smoothing import divide

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
    """A copy in QDQ form: the nodes that `recipes` names are computed in INT8, all others as they were.

    The weights of `model` are not read, so they may be anywhere (`graph_files.bare`).
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph, nodes = quantized.graph, list(quantized.graph.node)
    for node in list(nodes):
        if recipe := recipes.get(node.name):
            at = nodes.index(node)
            nodes[at:at] = _in_codes(graph, node, recipe)
    replace_nodes(graph, nodes)
    drop_unused(graph)
    return quantized


def _in_codes(graph: onnx.GraphProto, node: onnx.NodeProto, recipe: Recipe) -> list[onnx.NodeProto]:
    """Give `node` inputs that went through codes. -> the nodes that make them."""
    activation, before = divide(graph, node, recipe.smoothing) if recipe.smoothing is not None else (node.input[0], [])
    if recipe.shift is not None:
        _shift_bias(graph, node, recipe.shift)
    own, codes = f"{node.name}/activation", f"{node.name}/weight_codes"
    graph.initializer.append(numpy_helper.from_array(recipe.weight, codes))
    weight = _constants(graph, f"{node.name}/weight", recipe.scale, np.zeros(len(recipe.scale), np.int8))
    node.input[:] = [f"{own}_dq", f"{node.name}/weight_dq"]
    return [
        *before,
        *through_codes(graph, own, activation, *affine(recipe.span)),
        helper.make_node(
            "DequantizeLinear", [codes, *weight], [f"{node.name}/weight_dq"], f"{node.name}/weight/Dequantize", axis=1
        ),
    ]


def _shift_bias(graph: onnx.GraphProto, node: onnx.NodeProto, shift: NDArray[np.float32]) -> None:
    """Add `shift` to the bias that follows `node`. A layer without one is left alone: another node would cost time."""
    vectors = {tensor.name: tensor for tensor in graph.initializer if list(tensor.dims) == [len(shift)]}
    for add in graph.node:
        if add.op_type == "Add" and node.output[0] in add.input:
            for bias in (vectors[name] for name in add.input if name in vectors):
                bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + shift, bias.name))


def through_codes(
    graph: onnx.GraphProto, own: str, tensor: str, scale: np.float32, zero: np.integer[Any]
) -> list[onnx.NodeProto]:
    """The nodes that take `tensor` to codes of the type of `zero` and back, as `<own>_dq`."""
    parameters = _constants(graph, own, np.asarray(scale), np.asarray(zero))
    return [
        helper.make_node("QuantizeLinear", [tensor, *parameters], [f"{own}_codes"], f"{own}/Quantize"),
        helper.make_node("DequantizeLinear", [f"{own}_codes", *parameters], [f"{own}_dq"], f"{own}/Dequantize"),
    ]


def _constants(
    graph: onnx.GraphProto, name: str, scale: NDArray[np.float32], zero_point: NDArray[np.generic]
) -> list[str]:
    names = [f"{name}_scale", f"{name}_zero_point"]
    graph.initializer.extend(map(numpy_helper.from_array, (scale, zero_point), names))
    return names


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
