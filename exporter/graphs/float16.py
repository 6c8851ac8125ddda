"""FP32 graph -> FP16, for GPUs and other engines that compute in it."""

from __future__ import annotations

from pathlib import Path

import onnx

KEPT_IN_FP32 = ("LayerNormalization", "Softmax")
"""Both sum over a row: in FP16 the sum of squares of an outlier channel (hundreds, squared) passes 65 504."""


def to_half(path: Path) -> onnx.ModelProto:
    """The graph at `path` with FP16 weights and activations; its inputs and outputs keep their types.

    By path rather than in memory: shape inference on a message over 2 GiB works on files only.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(str(path), keep_io_types=True, op_block_list=list(KEPT_IN_FP32))
