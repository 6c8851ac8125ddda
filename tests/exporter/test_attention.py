"""Attention's two products in INT8, on one layer of random queries, keys and values."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.bench.kernel_profile import profile
from siglip_edge.exporter.calibration import observe
from siglip_edge.exporter.int8 import attention, search
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.exporter.verification.trial import Trial
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.scoring import l2_normalize

HEADS, WIDTH, LENGTH = 2, 16, attention.SHORTEST


def layer(*, masked: bool = False, constant_query: bool = False) -> onnx.ModelProto:
    """(n, length, 3 · heads · width) -> softmax(queries · keys) · values, (n, length · heads · width)."""
    own = helper.make_node
    constants = {
        "heads": np.array([0, -1, HEADS, WIDTH]),
        "flat": np.array([0, -1]),
        "mask": np.where(np.arange(LENGTH) < LENGTH - 8, 0, -1e9).astype(np.float32),
        "query": np.ones((HEADS, LENGTH, WIDTH), np.float32),
    }
    nodes = [own("Split", ["x"], ["q", "k", "v"], "split", axis=2, num_outputs=3)]
    for name, perm in (("q", (0, 2, 1, 3)), ("k", (0, 2, 3, 1)), ("v", (0, 2, 1, 3))):
        nodes += [
            own("Reshape", [name, "heads"], [f"{name}/4"], f"{name}/reshape"),
            own("Transpose", [f"{name}/4"], [f"{name}/by_head"], f"{name}/transpose", perm=perm),
        ]
    nodes += [
        own("MatMul", ["query" if constant_query else "q/by_head", "k/by_head"], ["raw"], "scores"),
        *([own("Add", ["raw", "mask"], ["masked"], "mask_scores")] if masked else []),
        own("Softmax", ["masked" if masked else "raw"], ["weights"], "softmax", axis=-1),
        own("MatMul", ["weights", "v/by_head"], ["mixed"], "mixing"),
        own("Transpose", ["mixed"], ["merged"], "merge", perm=(0, 2, 1, 3)),
        own("Reshape", ["merged", "flat"], ["pooled"], "flatten"),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", LENGTH, 3 * HEADS * WIDTH])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", LENGTH * HEADS * WIDTH])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def rows(count: int = 6, sharpness: float = 1.0) -> list[dict[str, np.ndarray]]:
    """`sharpness` multiplies queries: 0 attends to all keys alike, 3 to few."""
    made = np.random.default_rng(0).standard_normal((count, 1, LENGTH, 3 * HEADS * WIDTH)).astype(np.float32)
    made[..., : HEADS * WIDTH] *= sharpness
    made[..., 2 * HEADS * WIDTH :] += 1  # a mean that averaging does not lose
    return [{"x": row} for row in made]


def quantized(model: onnx.ModelProto, batches, tmp_path) -> onnx.ModelProto:
    layers = attention.attention_layers(model.graph)
    seen = observe(model, sorted(attention.activations(layers)), batches, len(batches), tmp_path)
    return attention.quantize_attention(model, attention.spans(layers, seen))


def opened(model: onnx.ModelProto, path, *, signed: bool | None = None) -> GraphSession:
    onnx.save(model, path)
    plan = serving_plan(Precision.INT8)
    return GraphSession(path, plan if signed is None else replace(plan, signed_products=signed))


@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_is_found_with_and_without_a_mask(masked):
    (found,) = attention.attention_layers(layer(masked=masked).graph)
    assert (found.scores, found.mixing) == ("scores", "mixing")
    assert (found.queries, found.keys, found.values) == ("q", "k", "v")  # before heads, channels last


def test_pooling_by_a_constant_query_stays_in_float():
    """onnxruntime's integer fusion of it has made the pooled output vanish."""
    assert attention.attention_layers(layer(constant_query=True).graph) == []


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sharpness", [0.0, 1.0, 3.0])
def test_queries_that_attend_to_many_keys_lose_no_more_than_others(masked, sharpness, tmp_path):
    """One static range of weights from 0 to 1 would round 1/192 to 1/255."""
    model, batches = layer(masked=masked), rows(sharpness=sharpness)
    exact, coarse = opened(model, tmp_path / "f.onnx"), opened(quantized(model, batches, tmp_path), tmp_path / "q.onnx")
    wanted, got = (np.concatenate([session.run(batch) for batch in batches]) for session in (exact, coarse))
    assert (l2_normalize(wanted) * l2_normalize(got)).sum(axis=1).min() > 0.998
    assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(wanted), rel=0.01)


def test_a_row_has_the_same_bits_alone_in_a_batch_and_without_signed_products(tmp_path):
    model, batches = layer(), rows()
    session = opened(quantized(model, batches, tmp_path), tmp_path / "q.onnx")
    unsigned = opened(onnx.load(tmp_path / "q.onnx"), tmp_path / "u.onnx", signed=False)
    together = {"x": np.concatenate([batch["x"] for batch in batches])}
    alone = np.concatenate([session.run(batch) for batch in batches])
    assert np.array_equal(session.run(together), alone)
    assert np.array_equal(unsigned.run(together), alone)


def test_both_products_are_computed_in_integers(tmp_path):
    """onnxruntime fuses them; no float product is left."""
    model, batches = layer(), rows()
    onnx.save(quantized(model, batches, tmp_path), tmp_path / "q.onnx")
    kernels = profile(tmp_path / "q.onnx", serving_plan(Precision.INT8), batches[0], runs=1)
    assert sorted(kernel.operator for kernel in kernels if "MatMul" in kernel.operator) == ["MatMulIntegerToFloat"] * 2


def trial_of(model: onnx.ModelProto, batches, tmp_path) -> Trial:
    reference = l2_normalize(np.concatenate([opened(model, tmp_path / "f.onnx").run(batch) for batch in batches]))
    return Trial(name="vision", model=model, directory=tmp_path, rows=batches, reference=reference)


def decided(
    batches, tmp_path, monkeypatch, *, budget: float, shortest: int
) -> tuple[onnx.ModelProto, dict[str, float]]:
    """What the search decides for a tower without linear layers."""
    monkeypatch.setattr(search, "BUDGET", budget)
    monkeypatch.setattr(attention, "SHORTEST", shortest)
    model, losses = layer(), {"chosen": 0.0}
    seen = observe(
        model,
        sorted(attention.activations(attention.attention_layers(model.graph))),
        batches,
        len(batches),
        tmp_path,
    )
    whole, _ = search._with_attention(model, trial_of(model, batches, tmp_path), seen, {}, losses)
    return whole.variant({}), losses


def is_quantized(model: onnx.ModelProto) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


@pytest.mark.parametrize(
    ("budget", "shortest", "expected"), [(0.002, LENGTH, True), (0.002, LENGTH + 1, False), (0.0, LENGTH, False)]
)
def test_long_rows_within_the_budget_get_attention_in_int8(budget, shortest, expected, tmp_path, monkeypatch):
    """Short rows gain no time; a loss above the budget is not worth it, and is reported."""
    model, losses = decided(rows(), tmp_path, monkeypatch, budget=budget, shortest=shortest)
    assert is_quantized(model) == expected
    assert ("attention in float" in losses) == expected
    assert ("attention in int8" in losses) == (shortest == LENGTH and not expected)
