"""Ranges, smoothing, weights and the search over them, on small matrices."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from siglip_edge.bench.kernel_profile import profile
from siglip_edge.exporter.calibration import Observation
from siglip_edge.exporter.int8 import layer_quantization as recipes
from siglip_edge.exporter.int8 import ranges, search
from siglip_edge.exporter.int8.cancellation import cancelling_codes
from siglip_edge.exporter.int8.qdq import quantize
from siglip_edge.exporter.int8.ranges import METHODS, Histogram, affine, rounded
from siglip_edge.exporter.int8.search import Layer, kept_in_float
from siglip_edge.exporter.verification.served_rows import serving_plan
from siglip_edge.runtime.artifacts.manifest import Precision

RNG = np.random.default_rng(0)


def gaussian(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def with_tail() -> np.ndarray:
    """A bell with three values in a hundred thousand far out."""
    values = gaussian(100_000)
    values[:3] = 60.0
    return values


def histogram(values: np.ndarray) -> Histogram:
    return Histogram.of(values, float(values.min()), float(values.max()))


def observed(values: np.ndarray) -> Observation:
    seen = Observation(positions=len(values))
    seen.add(values)
    return seen


def squared_error(values: np.ndarray, span) -> float:
    return float(np.square(rounded(values, span) - values).mean())


# --- ranges ---


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(
    "values", [with_tail(), np.abs(with_tail()), np.zeros(9, np.float32), np.array([5, 6], np.float32)]
)
def test_a_range_lies_within_what_was_seen_and_holds_zero(method, values):
    """Zero has a code: padding and GELU's tails are exactly zero."""
    low, high = method(histogram(values))
    assert min(float(values.min()), 0.0) <= low <= 0.0 <= high <= max(float(values.max()), 1e-9)
    scale, zero = affine((low, high))
    assert rounded(np.zeros(1, np.float32), (low, high))[0] == 0
    assert scale > 0
    assert 0 <= zero <= 255


def test_min_max_keeps_every_value():
    values = with_tail()
    low, high = ranges.min_max(histogram(values))
    assert (low, high) == (values.min(), values.max())


def test_a_moving_average_gives_up_what_one_row_adds():
    """Ten rows within ±1, one of them with a 60: the mean of every row's extremes."""
    seen = Observation(positions=4)
    for index in range(10):
        seen.add(np.array([[-1, 1], [1, 60 if index == 3 else 1]], np.float32))
    usual = float(seen.mean_low.min()), float(seen.mean_high.max())
    spread = Histogram.of(seen.sample, float(seen.low.min()), float(seen.high.max()), usual)
    assert ranges.moving_average(spread) == pytest.approx((-1.0, 6.9))
    assert ranges.min_max(spread) == (-1.0, 60.0)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_percentile_and_entropy_give_up_a_rare_value(method):
    """Three values in a hundred thousand do not take nine tenths of the codes."""
    _, high = METHODS[method](histogram(with_tail()))
    assert high < 30


def test_least_square_errs_least():
    """On the histogram it minimises, no other method has a smaller squared error."""
    values = with_tail()
    errors = {name: squared_error(values, method(histogram(values))) for name, method in METHODS.items()}
    assert min(errors, key=lambda name: errors[name]) == "least-square"


def test_a_range_on_one_side_spends_no_code_on_the_other():
    low, high = ranges.least_square(histogram(np.abs(gaussian(10_000))))
    assert low == 0.0 < high


# --- weights ---


def test_neighbouring_weights_cannot_saturate_sixteen_bits():
    """AVX2 without VNNI, emulated: saturating the sum of every two products changes nothing."""
    codes, _ = recipes.quantize_weight(gaussian(256, 64) ** 3)
    activation = RNG.integers(0, 256, (32, 256))
    activation[0] = 255
    products = activation[:, :, None] * codes.astype(np.int64)
    pairs = products.reshape(32, 128, 2, 64).sum(axis=2)
    assert np.array_equal(np.clip(pairs, -(2**15), 2**15 - 1), pairs)


def test_limiting_pairs_is_finer_than_seven_bits():
    weight = gaussian(768, 64)
    _, scale = recipes.quantize_weight(weight)
    assert scale.mean() < 0.75 * np.abs(weight).max(axis=0).mean() / 63


def test_an_odd_number_of_inputs_is_quantized_too():
    codes, scale = recipes.quantize_weight(gaussian(33, 8))
    assert codes.shape == (33, 8)
    assert scale.shape == (8,)


# --- recipes ---


def outliers() -> np.ndarray:
    """(512, 64): two channels a hundred times the rest."""
    values = gaussian(512, 64)
    values[:, [3, 40]] *= 100
    return values


def test_smoothing_cures_outlier_channels():
    """Channels that weights shrink again: min-max rounds all others away, smoothing does not."""
    weight = gaussian(64, 32)
    weight[[3, 40]] /= 100
    seen = observed(outliers())
    assert recipes.best(seen, weight).smoothing is not None
    assert recipes.best(seen, weight).error < 0.05 * recipes.plain(seen, weight).error


def test_without_outliers_nothing_is_smoothed():
    assert recipes.best(observed(gaussian(512, 64)), gaussian(64, 32)).smoothing is None


def graph_of(weight: np.ndarray, before: str) -> onnx.ModelProto:
    """x -> LayerNormalization or Neg -> MatMul by `weight`."""
    width = len(weight)
    inputs = ["x", "gain", "shift"] if before == "LayerNormalization" else ["x"]
    graph = helper.make_graph(
        [helper.make_node(before, inputs, ["a"], "before"), helper.make_node("MatMul", ["a", "w"], ["y"], "linear")],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", width))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", weight.shape[1]))],
        [
            numpy_helper.from_array(weight, "w"),
            numpy_helper.from_array(np.where(np.arange(width) == 3, 80, 1).astype(np.float32), "gain"),
            numpy_helper.from_array(gaussian(width), "shift"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run(model: onnx.ModelProto, rows: np.ndarray, output: str = "y") -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([output], {"x": rows})[0]


@pytest.mark.parametrize(("before", "multiplications"), [("LayerNormalization", 0), ("Neg", 1)])
def test_smoothing_is_folded_into_a_layer_norm_and_multiplied_elsewhere(before, multiplications):
    """The quantized graph computes what the float graph does, either way."""
    weight, rows = gaussian(64, 64), outliers() if before == "Neg" else gaussian(512, 64)
    weight[[3, 40]] /= 80
    model = graph_of(weight, before)
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    recipe = recipes.best(observed(run(probe, rows, "a")), weight)
    assert recipe.smoothing is not None
    quantized = quantize(model, {"linear": recipe})
    assert sum(node.op_type == "Mul" for node in quantized.graph.node) == multiplications
    exact, approximate = run(model, rows), run(quantized, rows)
    assert np.square(approximate - exact).mean() < 1e-3 * np.square(exact).mean()


def test_a_quantized_layer_is_fused_to_an_integer_product(tmp_path):
    """onnxruntime computes the layer in integers, right, and twice to the same bit."""
    weight, rows = gaussian(64, 64), gaussian(512, 64)
    model = graph_of(weight, "LayerNormalization")
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    probe.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    quantized = quantize(model, {"linear": recipes.best(observed(run(probe, rows, "a")), weight)})
    exact, approximate = run(model, rows), run(quantized, rows)
    assert np.square(approximate - exact).mean() < 1e-3 * np.square(exact).mean()
    assert np.array_equal(approximate, run(quantized, rows))
    onnx.save(quantized, tmp_path / "g.onnx")
    kernels = profile(tmp_path / "g.onnx", serving_plan(Precision.INT8), {"x": rows[:1]}, runs=1)
    assert "MatMulIntegerToFloat" in {kernel.operator for kernel in kernels}


def test_a_graph_without_recipes_is_unchanged():
    model = graph_of(gaussian(64, 64), "LayerNormalization")
    assert quantize(model, {}).graph.node == model.graph.node


# --- cancellation ---


def correlated(rows: int) -> np.ndarray:
    """(rows, 64): channels that vary together around a mean of their own, as activations do."""
    mix = np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32)
    return gaussian(rows, 8) @ mix + 0.1 * gaussian(rows, 64) + np.linspace(0, 2, 64, dtype=np.float32)


def cancelled(weight: np.ndarray) -> tuple[recipes.Recipe, recipes.Recipe]:
    """The best recipe before and after its errors cancel."""
    seen = observed(correlated(2048))
    before = recipes.best(seen, weight)
    return before, recipes.cancelling(before, seen, weight)


def output_error(recipe: recipes.Recipe, weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(rows, n): what the layer computes minus what it should."""
    divide = 1 if recipe.smoothing is None else recipe.smoothing
    got = rounded(np.asarray(rows / divide, np.float32), recipe.span) @ (recipe.weight * recipe.scale)
    return got + (0 if recipe.shift is None else recipe.shift) - rows @ weight


def test_errors_that_cancel_leave_less_on_unseen_rows():
    """Rounding to the nearest code, with the same scales, leaves more than twice the squared error of the weights."""
    weight, unseen = gaussian(64, 32), correlated(512)
    before, after = cancelled(weight)
    squares = [np.square(unseen @ (one.weight * one.scale - weight)).mean() for one in (before, after)]
    assert squares[1] < squares[0] / 2
    assert (
        np.square(output_error(after, weight, unseen)).mean() < np.square(output_error(before, weight, unseen)).mean()
    )


def test_the_mean_error_of_every_channel_goes_into_the_bias():
    weight = gaussian(64, 32)
    _, after = cancelled(weight)
    unshifted = output_error(dataclasses.replace(after, shift=None), weight, correlated(4096)).mean(axis=0)
    shifted = output_error(after, weight, correlated(4096)).mean(axis=0)
    assert np.abs(shifted).mean() < 0.5 * np.abs(unshifted).mean()


@pytest.mark.parametrize("length", [64, 63])
def test_codes_whose_errors_cancel_cannot_saturate_either(length):
    """Cubed weights are far apart, so that many pairs are at the limit."""
    weight = (gaussian(length, 32) ** 3).astype(np.float64)
    _, scale = recipes.quantize_weight(weight.astype(np.float32))
    codes = cancelling_codes(weight, correlated(512)[:, :length].astype(np.float64), scale.astype(np.float64), 127)
    pairs = codes[: length - length % 2].astype(int).reshape(-1, 2, 32)
    assert 255 * np.maximum(pairs, 0).sum(axis=1).max() < 2**15
    assert 255 * np.minimum(pairs, 0).sum(axis=1).min() >= -(2**15)
    assert np.abs(codes.astype(int)).max() <= 127


@pytest.mark.parametrize("biased", [True, False])
def test_a_shift_is_added_to_the_bias_where_there_is_one(biased):
    """A layer without a bias computes the same with and without it; no node is added."""
    weight, rows = gaussian(64, 32), correlated(64)
    model = graph_of(weight, "Neg")
    if biased:
        model.graph.node[-1].output[0] = "product"
        model.graph.node.append(helper.make_node("Add", ["product", "bias"], ["y"], "add"))
        model.graph.initializer.append(numpy_helper.from_array(gaussian(32), "bias"))
    recipe = recipes.plain(observed(-rows), weight)
    shifted = dataclasses.replace(recipe, shift=np.arange(32, dtype=np.float32))
    plain, moved = quantize(model, {"linear": recipe}), quantize(model, {"linear": shifted})
    assert len(plain.graph.node) == len(moved.graph.node)
    assert np.allclose(run(moved, rows) - run(plain, rows), np.arange(32) if biased else 0, atol=1e-4)


# --- search ---


def layers(losses: list[float], gains: list[int]) -> list[Layer]:
    return [
        Layer(name=str(index), loss=loss, multiplications=gain)
        for index, (loss, gain) in enumerate(zip(losses, gains, strict=True))
    ]


def test_within_the_budget_everything_is_int8():
    assert kept_in_float(layers([1e-4] * 8, [1] * 8), lambda _: search.BUDGET) == []


def test_the_costliest_for_what_they_gain_go_back_to_float_as_few_as_will_do():
    """A layer of great loss and many multiplications stays; a layer of the same loss and few multiplications goes."""
    losses, gains = [1e-3, 1e-3, *[5e-5] * 10], [90, 1, *[10] * 10]
    measured = layers(losses, gains)

    def loss(names):
        return sum(layer.loss for layer in measured if layer.name not in names)

    assert kept_in_float(measured, loss) == ["1"]


def test_no_more_than_a_quarter_goes_back_to_float():
    """Beyond that it is not an INT8 artifact, and the fidelity gate decides."""
    assert len(kept_in_float(layers([0.1] * 12, [1] * 12), lambda _: 1.0)) == 3
