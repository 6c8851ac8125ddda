"""What a session is opened with."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.errors import ArtifactCorrupt, ProviderUnavailable
from siglip_edge.runtime.execution import session
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan
from siglip_edge.runtime.execution.session import GraphSession, provider_options
from siglip_edge.runtime.machine.memory import read_memory, trim_heap


def plan_on(provider: str, **given: str) -> ExecutionPlan:
    return ExecutionPlan(
        provider=provider,
        provider_options=given,
        precision=Precision.INT8,
        intra_op_threads=3,
        reason="test",
    )


def options(provider: str, **given: str) -> dict[str, str]:
    return provider_options(plan_on(provider, **given))


def test_openvino_on_the_cpu_gets_the_planned_threads():
    """It starts its own, as many as the host has cores, unless it is told; unpinned, in float32."""
    given = options(OPENVINO, device_type="CPU")
    assert (given["device_type"], given["num_of_threads"]) == ("CPU", "3")
    assert json.loads(given["load_config"]) == {"CPU": {"ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": "f32"}}


@pytest.mark.parametrize(
    ("provider", "given"), [(OPENVINO, {"device_type": "GPU"}), (CUDA, {"device_id": "1"}), (CPU, {})]
)
def test_elsewhere_the_plans_own_options_are_all(provider, given):
    assert options(provider, **given) == given


@pytest.mark.parametrize(("tokens", "least", "most"), [(16, 48 << 20, 128 << 20), (2048, 0, 32 << 20)])
def test_the_buffers_of_a_long_row_are_given_back_after_its_run(tmp_path, tokens, least, most):
    """Those of a short one stay, because the next run is as short. A value of 64 MB is made of either."""
    value_info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["attention_mask", "zero", "one", "one"], ["column"]),
            helper.make_node("Cast", ["column"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Expand", ["number", "shape"], ["wide"]),
            helper.make_node("ReduceMax", ["wide", "one"], ["pooled"], keepdims=1),
        ],
        "wide",
        [value_info("attention_mask", TensorProto.INT64, ["n", "length"])],
        [value_info("pooled", TensorProto.FLOAT, ["n", 1])],
        [
            numpy_helper.from_array(np.array([1, 16 << 20]), "shape"),
            *(numpy_helper.from_array(np.array([number]), name) for number, name in enumerate(("zero", "one"))),
        ],
    )
    path = tmp_path / "wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    opened = GraphSession(path, plan_on(CPU))
    before = read_memory().anonymous
    assert opened.run({"attention_mask": np.ones((1, tokens), np.int64)}).tolist() == [[1.0]]
    assert least <= read_memory().anonymous - before <= most


def test_what_runs_keep_is_given_back_when_asked(tmp_path):
    """A graph with an intermediate value of 64 MB: kept after a run, gone after `shrink`, and runs go on."""
    value_info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Neg", ["row"], ["negative"]),  # the first block stays: onnxruntime's choice
            helper.make_node("Expand", ["negative", "shape"], ["wide"]),
            helper.make_node("ReduceMax", ["wide", "axes"], ["pooled"], keepdims=0),
        ],
        "wide",
        [value_info("row", TensorProto.FLOAT, ["n", 1, 1024])],
        [value_info("pooled", TensorProto.FLOAT, ["n", 1024])],
        [
            numpy_helper.from_array(np.array([1, 16 << 10, 1024]), "shape"),
            numpy_helper.from_array(np.array([1]), "axes"),
        ],
    )
    path = tmp_path / "wide.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    session = GraphSession(path, plan_on(CPU))
    row = np.arange(1024, dtype=np.float32).reshape(1, 1, 1024)
    first = session.run({"row": row})
    kept = read_memory().anonymous
    session.shrink()
    trim_heap()  # where a test before this one has let malloc keep large blocks
    assert kept - read_memory().anonymous > 48 << 20
    assert (session.run({"row": row}) == first).all()


@pytest.mark.parametrize("first", ["siglip_edge.runtime.execution.session", "siglip_edge.exporter.graphs.graph_files"])
def test_onnxruntime_reports_to_nobody(first, tmp_path):
    """Unless told not to before it is imported, it writes a device id and what it would send into the user's cache."""
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", f"import {first}, onnxruntime"], env=environ, check=True)
    assert not [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name]


def test_cuda_is_loaded_from_nvidias_packages_before_a_session_opens(monkeypatch, tmp_path, caplog):
    """Once per process, before the provider is looked for; what onnxruntime prints about it goes to the log."""
    loaded = []

    def preload():
        loaded.append("CUDA")
        sys.stdout.write("Failed to load libcublas.so.13: no such file\n")

    session._load_cuda.cache_clear()
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload)
    monkeypatch.setattr(session, "available_providers", lambda: (CUDA, CPU))
    for _ in range(2):
        with pytest.raises((ProviderUnavailable, ArtifactCorrupt)):
            GraphSession(tmp_path / "missing.onnx", plan_on(CUDA, device_id="0"))
    session._load_cuda.cache_clear()
    assert loaded == ["CUDA"]
    assert caplog.messages == ["CUDA: Failed to load libcublas.so.13: no such file"]
