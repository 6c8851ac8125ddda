"""The graphs of the kernel check (`runtime/checks/kernels.py`), written by the exporter's own quantizers.

Serving environments have no `onnx`, so the files are kept in the repository. After a change of a number format write
them again: `python -m siglip_edge.exporter.kernel_graphs`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.exporter.int4.gptq import Blocks
from siglip_edge.exporter.int4.weight_quantization import quantize_weights
from siglip_edge.exporter.int8.attention import product_in_codes
from siglip_edge.exporter.int8.layer_quantization import Recipe
from siglip_edge.exporter.int8.qdq import quantize, replace_nodes
from siglip_edge.exporter.int8.ranges import LEVELS, Range
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.checks import kernels
from siglip_edge.runtime.checks.kernels import PRODUCTS, Product

_OPSET, _IR_VERSION = 20, 9
_SPAN: Range = (-float(kernels.ZERO_POINT), float(LEVELS - kernels.ZERO_POINT))
"""A scale of 1 and the zero point of the check."""
_RIGHT_SPAN: Range = (-float(kernels.INT8_REACH), float(kernels.INT8_REACH))
"""A scale of 1."""


def kernel_graph(precision: Precision) -> onnx.ModelProto:
    """Every product of the precision, each with an input of its own; `pooled` has the results side by side."""
    products = PRODUCTS[precision]
    model = _in_float(products)
    if precision is Precision.INT8:
        weights = [product for product in products if not product.of_activations]
        return _activations_quantized(quantize(model, {product.name: _recipe(product) for product in weights}))
    return quantize_weights(model, {product.name: _blocks(product) for product in products})


def _in_float(products: Sequence[Product]) -> onnx.ModelProto:
    """The products in float32. Their weights are zeros, which the quantizers replace without reading."""
    results = [f"{product.name}/result" for product in products]
    nodes = [
        helper.make_node("MatMul", [product.name, product.right], [result], product.name)
        for product, result in zip(products, results, strict=True)
    ]
    weights = [
        numpy_helper.from_array(np.zeros((product.k, product.n), np.float32), product.right)
        for product in products
        if not product.of_activations
    ]
    inputs = [
        helper.make_tensor_value_info(product.name, TensorProto.FLOAT, ["rows", product.k]) for product in products
    ] + [
        helper.make_tensor_value_info(product.right, TensorProto.FLOAT, [product.k, product.n])
        for product in products
        if product.of_activations
    ]
    pooled = helper.make_tensor_value_info(
        "pooled", TensorProto.FLOAT, ["rows", sum(product.n for product in products)]
    )
    graph = helper.make_graph(
        [*nodes, helper.make_node("Concat", results, ["pooled"], axis=1)], "kernels", inputs, [pooled], weights
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _activations_quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the products of two activations in codes, in place."""
    rights = {product.name for product in PRODUCTS[Precision.INT8] if product.of_activations}
    nodes = [
        one
        for node in model.graph.node
        for one in (*(product_in_codes(model.graph, node, _SPAN, _RIGHT_SPAN) if node.name in rights else ()), node)
    ]
    replace_nodes(model.graph, nodes)
    return model


def _recipe(product: Product) -> Recipe:
    return Recipe(
        span=_SPAN,
        smoothing=None,
        weight=kernels.int8_codes(product.k, product.n),
        scale=kernels.column_scales(product.n),
        error=0.0,
        method="exact",
    )


def _blocks(product: Product) -> Blocks:
    codes, zero, scale = kernels.blocks(product)
    return Blocks(bits=product.bits, codes=codes, scale=scale, zero=zero, error=0.0)


def main() -> None:
    for precision in PRODUCTS:
        kernels.graph_path(precision).write_bytes(kernel_graph(precision).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
