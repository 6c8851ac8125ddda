"""Outlier smoothing: an activation's large channels are moved into the weights that multiply it.

Xiao et al. 2022, "SmoothQuant": X W = (X / s)(s W), with s_j = sqrt(max|X_j| / max|W_j|) for channel j, the paper's
a = 1/2. (a = 3/4 fits the calibration rows better and unseen rows worse, by measurement.) Behind a LayerNorm the
division is folded into its scale and bias and costs nothing; elsewhere it is one multiplication.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Floats = NDArray[np.float32]

_TINY = 1e-5


def smoothing(reach: Floats, weight: Floats) -> Floats:
    """Divisors s of an activation's channels. `reach` (k,): largest magnitudes; `weight` (k, n) -> (k,) float32."""
    scale = np.sqrt(np.maximum(reach, _TINY) / np.maximum(np.abs(weight).max(axis=1), _TINY))
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float32)


def divide(graph: onnx.GraphProto, node: onnx.NodeProto, scale: Floats) -> tuple[str, list[onnx.NodeProto]]:
    """Divide what `node` reads: in place behind a LayerNorm, else by a new node. -> (tensor, nodes to insert)."""
    tensor = node.input[0]
    norm = _norm_before(graph, tensor)
    if norm is not None and sum(tensor in other.input for other in graph.node) == 1:
        vectors = {initializer.name: initializer for initializer in graph.initializer}
        for name in norm.input[1:]:
            vector = vectors[name]
            vector.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(vector) / scale, name))
        return tensor, []
    factor, smoothed = f"{node.name}/smoothing", f"{node.name}/smoothed"
    graph.initializer.append(numpy_helper.from_array(1 / scale, factor))
    return smoothed, [helper.make_node("Mul", [tensor, factor], [smoothed], f"{node.name}/Smooth")]


def _norm_before(graph: onnx.GraphProto, tensor: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if node.op_type == "LayerNormalization" and tensor in node.output), None)
