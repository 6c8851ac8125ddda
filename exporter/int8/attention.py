"""Attention's two products in INT8: queries by keys, and softmax's weights by values.

One static range does not suit the weights of all queries: a query that attends to hundreds of keys has weights around
1/256, one or two codes of a range from 0 to 1. So the weights of each query are divided by their largest before the
product, and the product is multiplied by it. The right sides are int8, which CPUs with VNNI multiply in half the time
of uint8 (`ExecutionPlan.signed_products`). docs/decisions/attention-in-int8.md has the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from siglip_edge.exporter.calibration import Observation
from siglip_edge.exporter.int8.qdq import replace_nodes, through_codes
from siglip_edge.exporter.int8.ranges import Histogram, Range, affine, least_square

SHORTEST = 192
"""Positions of a row from which this gains: at 128 rounding takes what the products save, with fewer positions more."""

_REACH = 127
"""Greatest magnitude of an int8 code; symmetric, because a zero point on the right side costs a pass."""

_SHARES: Range = (0.0, 1.0)
"""Of weights divided by the largest weight of their query."""


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """Names of the nodes of one layer's products, and of the tensors whose ranges they need, (n, ..., channels)."""

    scores: str
    mixing: str
    queries: str
    keys: str
    values: str


def attention_layers(graph: onnx.GraphProto) -> list[AttentionLayer]:
    """Every layer that multiplies activations before and after a Softmax.

    Pooling by a constant query has one such product only and stays in float: onnxruntime's fusion of it is wrong.
    """
    made = {output: node for node in graph.node for output in node.output}
    return [
        AttentionLayer(
            scores=scores.name,
            mixing=mixing.name,
            queries=_unarranged(made, scores.input[0]),
            keys=_unarranged(made, scores.input[1]),
            values=_unarranged(made, mixing.input[1]),
        )
        for scores, mixing in _products(graph, made)
    ]


def activations(layers: Sequence[AttentionLayer]) -> set[str]:
    """The tensors to observe on calibration rows."""
    return {tensor for layer in layers for tensor in (layer.queries, layer.keys, layer.values)}


def is_long(layers: Sequence[AttentionLayer], seen: Mapping[str, Observation]) -> bool:
    """Whether every calibration row has SHORTEST positions or more, so that INT8 gains time."""
    return bool(layers) and all(seen[layer.queries].shortest >= SHORTEST for layer in layers)


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Ranges of one layer's activations."""

    queries: Range
    keys: Range
    values: Range


def spans(layers: Sequence[AttentionLayer], seen: Mapping[str, Observation]) -> dict[str, Spans]:
    """Name of the scores' node -> ranges with the least squared error."""
    return {
        layer.scores: Spans(
            queries=_span(seen[layer.queries]), keys=_span(seen[layer.keys]), values=_span(seen[layer.values])
        )
        for layer in layers
    }


def quantize_attention(model: onnx.ModelProto, ranges: Mapping[str, Spans]) -> onnx.ModelProto:
    """A copy in which the layers whose scores `ranges` names multiply codes. Weights of `model` are not read."""
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph, before, after = quantized.graph, dict[str, Any](), dict[str, Any]()
    made = {output: node for node in graph.node for output in node.output}
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), "attention/keys_axis"))
    for scores, mixing in _products(graph, made):
        if chosen := ranges.get(scores.name):
            divided, after[mixing.name] = _divided_by_largest(mixing)
            before[scores.name] = product_in_codes(graph, scores, chosen.queries, chosen.keys)
            before[mixing.name] = [*divided, *product_in_codes(graph, mixing, _SHARES, chosen.values)]
    around = ((*before.get(node.name, ()), node, *after.get(node.name, ())) for node in graph.node)
    replace_nodes(graph, [node for nodes in around for node in nodes])
    return quantized


def product_in_codes(graph: onnx.GraphProto, node: onnx.NodeProto, left: Range, right: Range) -> list[onnx.NodeProto]:
    """Give `node` a uint8 left side and an int8 right side. -> the nodes that make them."""
    sides = {"left": affine(left), "right": _symmetric(right)}
    nodes = [
        through_codes(graph, f"{node.name}/{side}", tensor, *codes)
        for tensor, (side, codes) in zip(node.input, sides.items(), strict=True)
    ]
    node.input[:] = [f"{node.name}/{side}_dq" for side in sides]
    return [one for side in nodes for one in side]


def _divided_by_largest(mixing: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Give `mixing` shares of the largest weight. -> the nodes before it, and the one after it that undoes that."""
    own, weights, result = mixing.name, mixing.input[0], mixing.output[0]
    mixing.input[0], mixing.output[0] = f"{own}/shares", f"{own}/of_shares"
    before = [
        helper.make_node("ReduceMax", [weights, "attention/keys_axis"], [f"{own}/largest"], f"{own}/Largest"),
        helper.make_node("Div", [weights, f"{own}/largest"], [f"{own}/shares"], f"{own}/Divide"),
    ]
    return before, [helper.make_node("Mul", [f"{own}/of_shares", f"{own}/largest"], [result], f"{own}/Multiply")]


def _products(
    graph: onnx.GraphProto, made: Mapping[str, onnx.NodeProto]
) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """The products before and after each Softmax, where both have two activations. A mask may be added between."""
    constants = {tensor.name for tensor in graph.initializer}
    for mixing in graph.node:
        softmax = made.get(mixing.input[0]) if _multiplies(mixing, constants) else None
        if softmax is None or softmax.op_type != "Softmax":
            continue
        scores = made.get(softmax.input[0])
        if scores is not None and scores.op_type == "Add":
            scores = next((made[name] for name in scores.input if _is_product(made.get(name))), None)
        if scores is not None and _multiplies(scores, constants):
            yield scores, mixing


def _is_product(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "MatMul"


def _multiplies(node: onnx.NodeProto, constants: set[str]) -> bool:
    return node.op_type == "MatMul" and constants.isdisjoint(node.input)


def _unarranged(made: Mapping[str, onnx.NodeProto], tensor: str) -> str:
    """The tensor before it was split into heads and transposed: its last axis has the channels."""
    while tensor in made and made[tensor].op_type in {"Transpose", "Reshape"}:
        tensor = made[tensor].input[0]
    return tensor


def _span(seen: Observation) -> Range:
    return least_square(Histogram.of(seen.sample, float(seen.low.min()), float(seen.high.max())))


def _symmetric(span: Range) -> tuple[np.float32, np.int8]:
    """Scale and zero point for int8 codes."""
    return np.float32(max(-span[0], span[1], 1e-12) / _REACH), np.int8(0)
