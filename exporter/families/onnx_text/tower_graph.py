"""Parts of an encoder -> one FP32 graph, token embeddings and their mask to the pooled row, as `text` traces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.exporter.families.onnx_text.encoder import Activation, Encoder, Floats, Layer, Linear, Norm
from siglip_edge.exporter.families.text.layout import Pooling
from siglip_edge.exporter.graphs.blockwise_attention import DOMAIN, HIDDEN, LONGEST_AT_ONCE, OPERATOR
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS

OPSET = 20
POOLED = "pooled"


class TowerGraph:
    """Nodes and weights in the order in which they are added; every method returns the name of its value."""

    def __init__(self, heads: int, longest: int) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._heads, self._longest = heads, longest

    def encode(self, encoder: Encoder, positions: Floats, *, first_only: bool) -> str:
        """Hidden rows. `positions`: (longest, width), with the first token type. `first_only`: of the first alone."""
        placed = self._add_positions(positions)
        hidden, padding = self._norm("/embeddings/norm", placed, encoder.norm), self._padding()
        for index, layer in enumerate(encoder.layers):
            last = index + 1 == len(encoder.layers)
            hidden = self._layer(
                f"/layer.{index}", layer, hidden, padding, encoder.activation, first_only=first_only and last
            )
        return hidden

    def pool(self, pooling: Pooling, hidden: str) -> str:
        if pooling is Pooling.FIRST:
            return self._node("Squeeze", "/pool/first", hidden, self._ints("/pool/one", 1))
        own, axis = "/pool", self._ints("/pool/one", 1)
        count = self._node("ReduceSum", f"{own}/count", ATTENTION_MASK, axis, keepdims=1)
        if pooling is Pooling.LAST:
            return self._node(
                "GatherND", f"{own}/row", hidden, self._node("Sub", f"{own}/last", count, axis), batch_dims=1
            )
        kept, number = (
            self._node("Cast", f"{own}/{name}", given, to=TensorProto.FLOAT)
            for name, given in (("kept", ATTENTION_MASK), ("number", count))
        )
        weights = self._node("Unsqueeze", f"{own}/row", self._node("Div", f"{own}/weights", kept, number), axis)
        mean = self._node("MatMul", f"{own}/mean", weights, hidden)
        return self._node("Squeeze", f"{own}/squeezed", mean, axis)

    def dense(self, name: str, given: str, layer: Linear, operator: str) -> str:
        return self._node(operator, f"{name}/activation", self._linear(name, given, layer))

    def normalize(self, name: str, given: str) -> str:
        """Rows of length one, as torch.nn.functional.normalize makes them."""
        length = self._node("ReduceL2", f"{name}/length", given, self._ints(f"{name}/axis", 1), keepdims=1)
        least = self._node("Max", f"{name}/least", length, self._constant(f"{name}/epsilon", np.float32(1e-12)))
        return self._node("Div", f"{name}/unit", given, least)

    def model(self, pooled: str, width: int, dimensions: int) -> onnx.ModelProto:
        self._nodes.append(helper.make_node("Identity", [pooled], [POOLED], "/pooled"))
        embeddings, mask = ["batch", "length", width], ["batch", "length"]
        graph = helper.make_graph(
            self._nodes,
            "text",
            [
                helper.make_tensor_value_info(TOKEN_EMBEDDINGS, TensorProto.FLOAT, embeddings),
                helper.make_tensor_value_info(ATTENTION_MASK, TensorProto.INT64, mask),
            ],
            [helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, ["batch", dimensions])],
            list(self._weights.values()),
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def _add_positions(self, positions: Floats) -> str:
        length = self._node("Shape", "/embeddings/length", ATTENTION_MASK, start=1, end=2)
        start = self._ints("/embeddings/start", 0)
        table = self._constant("/embeddings/table", positions)
        places = self._node("Slice", "/embeddings/places", table, start, length, start)
        return self._node("Add", "/embeddings/sum", TOKEN_EMBEDDINGS, places)

    def _padding(self) -> str:
        """float32 (n, 1, 1, length), added to attention's products."""
        padded = self._node("Sub", "/mask/padded", self._ints("/mask/one", 1), ATTENTION_MASK)
        number = self._node("Cast", "/mask/number", padded, to=TensorProto.FLOAT)
        term = self._node("Mul", "/mask/term", number, self._constant("/mask/hidden", np.float32(HIDDEN)))
        return self._node("Unsqueeze", "/mask/by_head", term, self._ints("/mask/axes", 1, 2))

    def _layer(
        self, own: str, layer: Layer, hidden: str, padding: str, activation: Activation, *, first_only: bool = False
    ) -> str:
        residual = self._first(own, hidden) if first_only else hidden
        mixed = self._attention(f"{own}/attention", layer, hidden, residual, padding)
        attended = self._node("Add", f"{own}/attended", residual, self._linear(f"{own}/out", mixed, layer.out))
        between = self._norm(f"{own}/attention_norm", attended, layer.attention_norm)
        up = self._linear(f"{own}/up", between, layer.up)
        active = self._node(activation.operator, f"{own}/activation", up, **activation.attributes)
        changed = self._node("Add", f"{own}/changed", between, self._linear(f"{own}/down", active, layer.down))
        return self._norm(f"{own}/mlp_norm", changed, layer.mlp_norm)

    def _attention(self, own: str, layer: Layer, hidden: str, queried: str, padding: str) -> str:
        """`queried`: `hidden`, or its first position."""
        width = layer.query.weight.shape[1]
        query = scaled(layer.query, (width // self._heads) ** -0.5)
        if queried == hidden:
            together = self._linear(f"{own}/qkv", hidden, side_by_side([query, layer.key, layer.value]))
            parts = self._split(own, together, 3)
        else:
            together = self._linear(f"{own}/kv", hidden, side_by_side([layer.key, layer.value]))
            parts = [self._linear(f"{own}/query", queried, query), *self._split(own, together, 2)]
        shape = self._ints(f"{own}/heads", 0, 0, self._heads, width // self._heads)
        split = [
            self._node("Reshape", f"{own}/{name}", part, shape)
            for name, part in zip(("queries", "keys", "values"), parts, strict=True)
        ]
        mixed = self._attend(own, split, padding, in_blocks=self._longest > LONGEST_AT_ONCE and queried == hidden)
        together = self._node("Transpose", f"{own}/by_position", mixed, perm=[0, 2, 1, 3])
        return self._node("Reshape", f"{own}/together", together, self._ints(f"{own}/width", 0, 0, width))

    def _attend(self, own: str, parts: Sequence[str], padding: str, *, in_blocks: bool) -> str:
        """`parts`: queries, keys and values, (n, length, heads, head_width). -> (n, heads, length, head_width)."""
        by_head = [0, 2, 1, 3]
        perms = (by_head, by_head if in_blocks else [0, 2, 3, 1], by_head)
        sides = [
            self._node("Transpose", f"{part}/by_head", part, perm=perm) for part, perm in zip(parts, perms, strict=True)
        ]
        if in_blocks:
            return self._node(OPERATOR, f"{own}/mixed", *sides, padding, domain=DOMAIN, causal=0, reach=-1)
        scores = self._node("MatMul", f"{own}/scores", sides[0], sides[1])
        masked = self._node("Add", f"{own}/masked", scores, padding)
        weights = self._node("Softmax", f"{own}/weights", masked, axis=-1)
        return self._node("MatMul", f"{own}/mixed", weights, sides[2])

    def _split(self, own: str, together: str, count: int) -> list[str]:
        names = [f"{own}/part_{index}" for index in range(count)]
        self._nodes.append(
            helper.make_node("Split", [together], names, f"{own}/split", axis=-1, num_outputs=count),
        )
        return names

    def _first(self, own: str, hidden: str) -> str:
        zero, one = self._ints(f"{own}/zero", 0), self._ints(f"{own}/one", 1)
        return self._node("Slice", f"{own}/first", hidden, zero, one, one)

    def _linear(self, name: str, given: str, layer: Linear) -> str:
        product = self._node("MatMul", f"{name}/MatMul", given, self._constant(f"{name}/weight", layer.weight))
        return self._node("Add", f"{name}/Add", product, self._constant(f"{name}/bias", layer.bias))

    def _norm(self, name: str, given: str, norm: Norm) -> str:
        weight, bias = self._constant(f"{name}/weight", norm.weight), self._constant(f"{name}/bias", norm.bias)
        return self._node("LayerNormalization", name, given, weight, bias, axis=-1, epsilon=norm.epsilon)

    def _node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(operator, list(inputs), [f"{name}_output"], name, **attributes))
        return f"{name}_output"

    def _ints(self, name: str, *values: int) -> str:
        return self._constant(name, np.array(values, np.int64))

    def _constant(self, name: str, value: NDArray[Any] | np.float32) -> str:
        self._weights[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        return name


def side_by_side(layers: Sequence[Linear]) -> Linear:
    """One layer that computes several of the same value."""
    return Linear(
        weight=np.concatenate([layer.weight for layer in layers], axis=1),
        bias=np.concatenate([layer.bias for layer in layers]),
        given=layers[0].given,
    )


def scaled(layer: Linear, scale: float) -> Linear:
    return replace(layer, weight=layer.weight * np.float32(scale), bias=layer.bias * np.float32(scale))
