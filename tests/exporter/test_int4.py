"""INT4: rounding in blocks, the operator's layout, and which layers have 8 bits, on small matrices."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.exporter.calibration import Observation
from siglip_edge.exporter.int4 import weight_quantization as nbits
from siglip_edge.exporter.int4.gptq import BLOCK, Blocks, in_blocks
from siglip_edge.exporter.int4.weight_quantization import quantize_weights, search_bits
from siglip_edge.exporter.search_ledger import Ledger
from siglip_edge.exporter.verification.trial import Trial

RNG = np.random.default_rng(0)


def gaussian(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def correlated(rows: int, width: int) -> np.ndarray:
    """(rows, width): a few directions hold most of what activations do, as in a trained tower."""
    return gaussian(rows, width) @ (gaussian(width, width) * np.geomspace(1, 1e-2, width, dtype=np.float32)[:, None])


def nearest(weight: np.ndarray, bits: int) -> np.ndarray:
    """Every weight to its nearest code, the whole range of every block in use."""
    cut = weight.reshape(-1, BLOCK, weight.shape[1])
    low, high = np.minimum(cut.min(axis=1, keepdims=True), 0), np.maximum(cut.max(axis=1, keepdims=True), 0)
    scale = (high - low) / (2**bits - 1)
    return (np.rint(cut / scale) * scale).reshape(weight.shape)


def output_error(weight: np.ndarray, approximate: np.ndarray, rows: np.ndarray) -> float:
    return float(np.square(rows @ approximate - rows @ weight).mean() / np.square(rows @ weight).mean())


# --- rounding ---


def test_errors_that_cancel_beat_nearest_codes_on_rows_that_were_not_seen():
    rows, weight = correlated(4000, 64), gaussian(64, 48)
    rounded = in_blocks(weight, rows[:2000], 4).values
    assert output_error(weight, rounded, rows[2000:]) < 0.5 * output_error(weight, nearest(weight, 4), rows[2000:])


def test_what_a_rounding_says_it_loses_it_loses():
    rows, weight = correlated(500, 70), gaussian(70, 16)
    rounded = in_blocks(weight, rows, 4)
    assert rounded.error == pytest.approx(output_error(weight, rounded.values[:70], rows), rel=1e-3)


def test_eight_bits_lose_a_hundredth_of_four():
    rows, weight = correlated(500, 64), gaussian(64, 32)
    assert in_blocks(weight, rows, 8).error < 0.01 * in_blocks(weight, rows, 4).error


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("weight", [np.zeros((40, 8)), np.full((40, 8), 7.0), -np.ones((40, 8)), np.eye(40, 8) * 1e-30])
def test_weights_without_spread_are_rounded_too(weight, bits):
    """All zero, all equal, one sign only, next to nothing: finite, and as close as one step."""
    rounded = in_blocks(weight.astype(np.float32), gaussian(100, 40), bits)
    assert np.isfinite(rounded.values).all()
    assert np.abs(rounded.values[:40] - weight).max() <= np.abs(weight).max() / (2**bits - 1) + 1e-6


def test_inputs_that_are_always_zero_do_not_break_the_rounding():
    rows = gaussian(50, 64)
    rows[:, 10:40] = 0
    assert np.isfinite(in_blocks(gaussian(64, 8), rows, 4).values).all()
    assert np.isfinite(in_blocks(gaussian(64, 8), np.zeros((5, 64), np.float32), 4).values).all()


# --- the operator ---


def graph_of(*weights: np.ndarray) -> onnx.ModelProto:
    """x -> MatMul by each weight, one after the other."""
    nodes = [
        helper.make_node("MatMul", [f"h{i}" if i else "x", f"w{i}"], [f"h{i + 1}"], f"layer{i}")
        for i in range(len(weights))
    ]
    graph = helper.make_graph(
        nodes,
        "linear layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", "length", len(weights[0])))],
        [helper.make_tensor_value_info(f"h{len(weights)}", TensorProto.FLOAT, ("n", "length", weights[-1].shape[1]))],
        [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": rows})[0]


@pytest.mark.parametrize(("bits", "tolerance"), [(4, 1e-6), (8, 1e-2)])
@pytest.mark.parametrize(("k", "n"), [(64, 64), (96, 80), (70, 90), (33, 129), (256, 17)])
def test_the_operator_reads_the_layout_that_is_written(bits, tolerance, k, n):
    """Whole and broken blocks, odd numbers of them: the output is that of the values meant.

    In 8 bits the operator rounds activations, too.
    """
    weight, rows = gaussian(k, n), gaussian(3, 7, k)
    rounded = in_blocks(weight, rows.reshape(-1, k), bits)
    written = run(quantize_weights(graph_of(weight), {"layer0": rounded}), rows)
    meant = rows @ rounded.values[:k]
    assert np.linalg.norm(written - meant) < tolerance * np.linalg.norm(meant)


def test_layers_that_are_not_named_stay_as_they_are():
    weights = gaussian(64, 64), gaussian(64, 64)
    rounded = in_blocks(weights[1], gaussian(100, 64), 4)
    before, after = quantize_weights(graph_of(*weights), {"layer1": rounded}).graph.node
    assert (before.op_type, after.op_type) == ("MatMul", "MatMulNBits")


# --- which layers have 8 bits ---


class Losses(Trial):
    """A trial in which every layer costs what it is told to in 4 bits, and nothing in 8."""

    alone: dict[str, float]

    def loss(self, recipes: Mapping[str, Blocks]) -> float:
        return sum(self.alone[name] for name, one in recipes.items() if one.bits == 4)


def trial_of(model: onnx.ModelProto, *alone: float) -> Losses:
    rows = [{"x": np.zeros((1, 1), np.float32)}] * 8
    trial = Losses(name="vision", model=model, directory=Path(), rows=rows, reference=np.zeros((8, 1), np.float32))
    trial.alone = {f"layer{index}": loss for index, loss in enumerate(alone)}
    return trial


def searched(tmp_path, *alone: float):
    model = graph_of(*(gaussian(64, 64) for _ in alone))
    seen = Observation(positions=99)
    seen.add(gaussian(99, 64))
    activations = {node.input[0]: seen for node in model.graph.node}
    trial = trial_of(model, *alone)
    return search_bits(model, trial, activations, Ledger(tmp_path / "ledger", "key"), lambda items, _: items)


def bits(found) -> list[int]:
    return [next(a.i for a in node.attribute if a.name == "bits") for node in found.model.graph.node]


def test_within_the_budget_everything_has_four_bits_and_nothing_more_is_measured(tmp_path):
    found = searched(tmp_path, *[nbits.BUDGET / 8] * 4)
    assert bits(found) == [4, 4, 4, 4]
    assert "loss" not in found.details["layers"][0]
    assert "4 of 4 linear layers in 4 bits: loss" in found.details["reason"]


def test_the_costliest_have_eight_bits_as_few_as_will_do(tmp_path):
    found = searched(tmp_path, 0.0001, 0.004, 0.0002, 0.003, 0.0001, 0.0001)
    assert bits(found) == [4, 8, 4, 8, 4, 4]
    assert found.details["loss"] == {"4 bits": 0.0075, "chosen": 0.0005}
    assert [layer["bits"] for layer in found.details["layers"]] == bits(found)


def test_no_more_than_half_have_eight_bits(tmp_path):
    """Beyond that it is not an INT4 artifact, and the fidelity gate decides."""
    found = searched(tmp_path, *[0.01] * 6)
    assert bits(found).count(8) == 3
    assert "above the budget" in found.details["reason"]
