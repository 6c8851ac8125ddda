"""The parts of BERT and its relatives, read from a graph by the way that values take through it.

Exporters write shapes, masks and scales in many ways; those are passed over. Every weight must be found in its place,
and the tower made of the parts is compared with the graph, so that nothing is taken on trust.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.onnx_text.encoder import Activation, Encoder, Floats, Layer, Linear, Norm
from siglip_edge.exporter.families.onnx_text.published_graph import IDS, hidden_output

Found = TypeVar("Found")

_ACTIVATIONS = {
    "Gelu": Activation(operator="Gelu"),
    "FastGelu": Activation(operator="Gelu", attributes={"approximate": "tanh"}),
    "Relu": Activation(operator="Relu"),
}
"""Operator of the plain form -> of a tower."""


class PartsReader:
    """Walks from the hidden rows back to the ids. Raises ExportError where the graph is of another architecture."""

    def __init__(self, source: str, model: onnx.ModelProto) -> None:
        self._source, self._hidden = source, hidden_output(source, model)
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made = {name: node for node in model.graph.node for name in node.output}
        self._read: set[str] = set()
        self._heads: set[int] = set()
        self._activations: set[str] = set()

    def encoder(self, positions: int, token_types: int) -> Encoder:
        """`positions`, `token_types`: rows of the tables, by config.json."""
        name, layers = self._hidden, list[Layer]()
        while self._linears_added(self._norm_node(name)):
            layer, name = self._layer(name)
            layers.append(layer)
        norm = self._norm_node(name)
        tables = self._tables(norm.input[0], positions, token_types)
        (heads,) = self._expected(sorted(self._heads), 1)
        (activation,) = self._expected(sorted(self._activations), 1)
        found = Encoder(
            **tables, norm=self._norm(norm), layers=layers[::-1], heads=heads, activation=_ACTIVATIONS[activation]
        )
        self._check_all_read()
        return found

    def _layer(self, name: str) -> tuple[Layer, str]:
        """The layer that makes `name`, and the name of what it takes."""
        mlp_norm = self._norm_node(name)
        down, between = self._linear_and_residual(mlp_norm)
        (up,) = self._expected(self._linears_behind(down.given), 1)
        self._activations.add(self._activation(down.given))
        attention_norm = self._norm_node(between)
        out, before = self._linear_and_residual(attention_norm)
        mixing = self._product_behind(out.given)
        (value,) = self._expected(self._linears_behind(mixing.input[1]), 1)
        scores = self._product_behind(mixing.input[0])
        self._heads.add(self._heads_of(scores.input[0]))
        (query,) = self._expected(self._linears_behind(scores.input[0]), 1)
        (key,) = self._expected(self._linears_behind(scores.input[1]), 1)
        if up.given != between or {one.given for one in (query, key, value)} != {before}:
            raise self._other("its layers are not connected as BERT's")
        layer = Layer(
            query=query,
            key=key,
            value=value,
            out=out,
            attention_norm=self._norm(attention_norm),
            up=up,
            down=down,
            mlp_norm=self._norm(mlp_norm),
        )
        return layer, before

    def _linear_and_residual(self, norm: onnx.NodeProto) -> tuple[Linear, str]:
        """The two sides of the sum that a LayerNorm takes."""
        (linear,) = self._expected(self._linears_added(norm), 1)
        (residual,) = self._expected([leaf for leaf in self._summands(norm.input[0]) if self._linear(leaf) is None], 1)
        return linear, residual

    def _linears_added(self, norm: onnx.NodeProto) -> list[Linear]:
        found = (self._linear(leaf) for leaf in self._summands(norm.input[0]))
        return [linear for linear in found if linear is not None]

    def _summands(self, name: str) -> Iterator[str]:
        """What is added up to `name`; a product and its bias are one."""
        node = self._made.get(name)
        if node is None or node.op_type != "Add" or self._linear(name) is not None:
            yield name
            return
        for side in node.input:
            yield from self._summands(side)

    def _linear(self, name: str) -> Linear | None:
        """The product with a constant matrix, plus a constant vector, that makes `name`."""
        node = self._made.get(name)
        if node is None or node.op_type != "Add":
            return None
        for side, other in (node.input, reversed(node.input)):
            product, bias = self._made.get(side), self._tensors.get(other)
            if product is not None and product.op_type == "MatMul" and bias is not None and len(bias.dims) == 1:
                weight = product.input[1]
                if weight in self._tensors:
                    return Linear(weight=self._array(weight), bias=self._array(other), given=product.input[0])
        return None

    def _linears_behind(self, name: str) -> list[Linear]:
        """The nearest ones that `name` is computed from."""
        found, waiting, seen = dict[str, Linear](), [name], set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if (linear := self._linear(name)) is not None:
                found[name] = linear
            elif (node := self._made.get(name)) is not None and node.op_type != "Shape":
                waiting += node.input
        return list(found.values())

    def _activation(self, name: str) -> str:
        node = self._made[name]
        attributes = {attribute.name: attribute.s for attribute in node.attribute}
        if node.op_type == "Gelu" and attributes.get("approximate") == b"tanh":
            return "FastGelu"
        if node.op_type not in _ACTIVATIONS or self._linear(node.input[0]) is None:
            raise self._other(f"its activation is {node.op_type}; {', '.join(_ACTIVATIONS)} are known")
        return str(node.op_type)

    def _heads_of(self, name: str) -> int:
        """From the shape (n, length, heads, head_width) into which queries are brought."""
        node = self._made.get(name)
        while node is not None and node.op_type in {"Transpose", "Mul", "Div"}:
            node = self._made.get(next(side for side in node.input if not self._is_scalar(side)))
        if node is None or node.op_type != "Reshape":
            raise self._other("its queries are not split into heads by a Reshape")
        shape, joined = self._tensors.get(node.input[1]), self._made.get(node.input[1])
        if shape is None and joined is not None and joined.op_type == "Concat":
            shape, at = self._tensors.get(joined.input[-2]), -1
        else:
            at = -2
        heads = 0 if shape is None else int(numpy_helper.to_array(shape)[at])
        if heads < 1:
            raise self._other("its number of heads is computed")
        return heads

    def _is_scalar(self, name: str) -> bool:
        """Whether it is a constant, or a scale computed from shapes and constants alone."""
        return not self._linears_behind(name)

    def _product_behind(self, name: str) -> onnx.NodeProto:
        """The nearest product of two computed values."""
        waiting = [name]
        while waiting:
            node = self._made.get(waiting.pop(0))
            if node is not None and node.op_type == "MatMul" and self._tensors.keys().isdisjoint(node.input):
                return node
            if node is not None and node.op_type != "Shape":
                waiting += node.input
        raise self._other("attention's products are not found")

    def _tables(self, name: str, positions: int, token_types: int) -> dict[str, Floats]:
        """The tables whose rows are added up, by what they are called in Encoder."""
        found = dict[str, Floats]()
        for leaf in self._summands(name):
            node = self._made.get(leaf)
            if node is None or node.op_type != "Gather" or node.input[0] not in self._tensors:
                raise self._other("something other than tokens, positions and token types is embedded")
            table = self._array(node.input[0])
            is_token = node.input[1] == IDS
            kind = "tokens" if is_token else {positions: "positions", token_types: "token_types"}.get(len(table))
            if kind is None or kind in found:
                raise self._other(f"a table of {len(table)} embeddings is none that config.json describes")
            found[kind] = table
        if missing := {"tokens", "positions", "token_types"} - found.keys():
            raise self._other(f"it has no table of {missing.pop()}")
        return found

    def _norm_node(self, name: str) -> onnx.NodeProto:
        node = self._made.get(name)
        if node is None or node.op_type != "LayerNormalization":
            raise self._other(f"{name} comes from {node.op_type if node else 'nowhere'} where BERT has a LayerNorm")
        return node

    def _norm(self, node: onnx.NodeProto) -> Norm:
        given = {attribute.name: attribute for attribute in node.attribute}
        epsilon = given["epsilon"].f if "epsilon" in given else 1e-5
        return Norm(weight=self._array(node.input[1]), bias=self._array(node.input[2]), epsilon=epsilon)

    def _array(self, name: str) -> Floats:
        if name not in self._tensors:
            raise self._other(f"{name} is computed where a weight is expected")
        self._read.add(name)
        return np.asarray(numpy_helper.to_array(self._tensors[name]))

    def _expected(self, found: Sequence[Found], count: int) -> Sequence[Found]:
        if len(found) != count:
            raise self._other(f"{len(found)} values stand where BERT has {count}")
        return found

    def _check_all_read(self) -> None:
        """Weights of other outputs, such as BERT's own pooler, are not of the embedding."""
        for name in self._behind(self._hidden) & self._tensors.keys() - self._read:
            tensor = self._tensors[name]
            if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 1:
                raise self._other(f"its weight {name} has no place in BERT")

    def _behind(self, name: str) -> set[str]:
        """Every value that `name` is computed from."""
        seen, waiting = {name}, [name]
        while waiting:
            node = self._made.get(waiting.pop())
            new = set(node.input if node else ()) - seen
            seen |= new
            waiting += new
        return seen

    def _other(self, reason: str) -> ExportError:
        return ExportError(
            f"{self._source}: its ONNX graph is not of BERT's architecture ({reason}); export it from its weights, "
            "with pip install 'siglip-edge[export]'"
        )
