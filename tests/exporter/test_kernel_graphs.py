"""The kernel check's graphs are of the formats that the exporter writes today."""

import numpy as np
import onnx
import pytest
from onnx import helper

from siglip_edge.exporter.int4.weight_quantization import ACCURACY_LEVEL
from siglip_edge.exporter.kernel_graphs import kernel_graph
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.checks.kernels import PRODUCTS, graph_path
from tests.test_packaging import ROOT

MODEL = ROOT / "quantized_models/emoji-siglip"


def formats(model: onnx.ModelProto, operator: str) -> set[tuple]:
    """Of every node of this kind: attributes that choose a kernel, and the types of its constants."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {
        (
            tuple((a.name, helper.get_attribute_value(a)) for a in node.attribute if a.name not in {"K", "N"}),
            tuple(types.get(name) for name in node.input),
        )
        for node in model.graph.node
        if node.op_type == operator
    }


@pytest.mark.parametrize("precision", list(PRODUCTS))
def test_the_graphs_are_made_by_the_quantizers(precision):
    """On a difference run `python -m siglip_edge.exporter.kernel_graphs`."""
    assert graph_path(precision).read_bytes() == kernel_graph(precision).SerializeToString(deterministic=True)


@pytest.mark.parametrize("tower", ["vision", "text"])
@pytest.mark.parametrize(
    ("precision", "operator"),
    [
        (Precision.INT8, "QuantizeLinear"),
        (Precision.INT8, "DequantizeLinear"),
        (Precision.INT4, "MatMulNBits"),
    ],
)
def test_every_format_of_a_shipped_artifact_is_checked(precision, operator, tower):
    """Number types, widths, block sizes and accuracy levels of the demo model are among those of the check."""
    shipped = formats(onnx.load(MODEL / f"{tower}_{precision}.onnx"), operator)
    assert shipped
    assert shipped <= formats(onnx.load(graph_path(precision)), operator)


def levels(model: onnx.ModelProto) -> set[tuple[int, int]]:
    """(bits, accuracy level) of every MatMulNBits; a level that is not set is 0, onnxruntime's choice."""
    nodes = (node for node in model.graph.node if node.op_type == "MatMulNBits")
    attributes = ({a.name: helper.get_attribute_value(a) for a in node.attribute} for node in nodes)
    return {(given["bits"], given.get("accuracy_level", 0)) for given in attributes}


def test_four_bit_products_never_use_accuracy_level_4():
    """Level 4 rounds activations to 8 bits; its one-row kernel for 4-bit weights is wrong on AVX2 (onnxruntime 29853)."""
    assert ACCURACY_LEVEL[4] == 1
    graphs = [*(ROOT / "quantized_models").glob("*/*_int4.onnx"), graph_path(Precision.INT4)]
    assert len(graphs) == 3
    for path in graphs:
        found = levels(onnx.load(path))
        assert {level for bits, level in found if bits == 4} == {1}, path
        assert all(np.isin(level, [1, 4]) for _, level in found)
