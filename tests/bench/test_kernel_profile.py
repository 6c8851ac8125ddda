"""The time of each kernel, from onnxruntime's profiler."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.bench.kernel_profile import Kernel, by_operator, profile
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.runtime.artifacts.manifest import Precision


def test_every_kernel_that_runs_is_timed_once(tmp_path):
    """Two products and an Exp are three kernels, whatever the number of runs; nothing is left on disk."""
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
            helper.make_node("Exp", ["a"], ["b"], "between"),
            helper.make_node("MatMul", ["b", "w"], ["y"], "second"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 4))],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    kernels = profile(path, serving_plan(Precision.FP32, threads=1), {"x": np.ones((1, 4), np.float32)}, runs=3)
    assert sorted((kernel.name, kernel.operator) for kernel in kernels) == [
        ("between", "Exp"),
        ("first", "MatMul"),
        ("second", "MatMul"),
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_operators_are_sums_of_their_kernels():
    kernels = [Kernel("a", "MatMul", 1.0), Kernel("b", "Add", 0.25), Kernel("c", "MatMul", 2.0)]
    assert by_operator(kernels) == {"MatMul": (2, 3.0), "Add": (1, 0.25)}
