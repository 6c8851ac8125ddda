"""FP32 graph -> FP16, for GPUs and other engines that compute in it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

KEPT_IN_FP32 = ("LayerNormalization", "Softmax", "Pow", "ReduceMean", "ReduceSum", "Scan")
"""They sum over a row: in FP16 the sum of squares of an outlier channel (hundreds, squared) passes 65 504. A Scan holds
attention in blocks, Softmax included."""


def to_half(path: Path) -> onnx.ModelProto:
    """The graph at `path` with FP16 weights and activations; its inputs and outputs keep their types.

    By path rather than in memory: shape inference on a message over 2 GiB works on files only.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(str(path), keep_io_types=True, op_block_list=list(KEPT_IN_FP32))
    halves = {info.name for info in model.graph.value_info if info.type.tensor_type.elem_type == TensorProto.FLOAT16}
    for node in [node for node in model.graph.node if node.op_type == "Scan"]:
        _feed_in_fp32(model.graph, node, halves)
    return model


def _feed_in_fp32(graph: onnx.GraphProto, scan: onnx.NodeProto, halves: set[str]) -> None:
    """Give the body of a Scan, which stayed in FP32, the values around it in FP32, too: they are no inputs of its."""
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    captured = {name for node in body.node for name in node.input} & halves
    for name in sorted(captured):
        widened = f"{scan.name}/{name}/fp32"
        graph.node.append(helper.make_node("Cast", [name], [widened], name=widened, to=TensorProto.FLOAT))
        for node in body.node:
            node.input[:] = [widened if used == name else used for used in node.input]
