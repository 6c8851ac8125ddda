"""The kernel check: right kernels pass, a wrong kernel is found, and its precision makes way for the next."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from siglip_edge.exporter.int4.gptq import BLOCK
from siglip_edge.exporter.int8.layer_quantization import PAIR_LIMIT
from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.checks import kernels
from siglip_edge.runtime.checks.kernels import PRODUCTS, ROWS, check_kernels, excluded, first_wrong
from siglip_edge.runtime.errors import WrongKernels
from siglip_edge.runtime.execution.plan import CPU, CUDA, OPENVINO, ExecutionPlan, Wishes
from siglip_edge.runtime.execution.session import GraphSession
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.open_model import open_model, plan_model
from tests.tiny_model import add_precision, write_model

EXACT_FLOATS = 2**24
"""Integers below this are exact in float32."""

PRECISIONS = list(PRODUCTS)


def plan_of(precision, provider=CPU, threads=1):
    return ExecutionPlan(provider=provider, precision=precision, intra_op_threads=threads, reason="test")


def numpy_kernels(precision, spoil=lambda product, result: result):
    """A `compute` that multiplies with NumPy and lets `spoil` change one product's result."""

    def compute(batch):
        return np.concatenate(
            [spoil(product, kernels.exact(product, batch[product.name])) for product in PRODUCTS[precision]], axis=1
        )

    return compute


@pytest.fixture
def fresh():
    """Results that this process remembers are forgotten before and after the test."""
    kernels._wrong_here.cache_clear()
    kernels.warn_of_release.cache_clear()
    yield
    kernels._wrong_here.cache_clear()
    kernels.warn_of_release.cache_clear()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_kernels_of_this_machine_are_right(precision, threads):
    """Every product of the shipped graphs has NumPy's bits."""
    check_kernels(plan_of(precision, threads=threads))
    assert kernels.examine_kernels() == dict.fromkeys(PRECISIONS, "")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_wrong_number_is_found(precision):
    """A single result that differs by the smallest step, from 5 rows on, in the last row and column."""
    last = PRODUCTS[precision][-1]

    def spoil(product, result):
        if product == last and len(result) > 4:
            result[-1, -1] = np.nextafter(result[-1, -1], np.float32(np.inf))
        return result

    assert first_wrong(precision, numpy_kernels(precision)) == ""
    found = first_wrong(precision, numpy_kernels(precision, spoil))
    kind = "activations" if last.of_activations else "weights"
    assert found == f"8-bit {kind}, 5 x {last.k} times {last.k} x {last.n}"


def test_sums_that_saturate_are_found():
    """`pmaddubsw` adds neighbours in a saturating int16: with weights that are not limited in pairs results differ."""

    def saturating(batch):
        results = []
        for product in PRODUCTS[Precision.INT8]:
            if product.of_activations:
                results.append(kernels.exact(product, batch[product.name]))
                continue
            codes = (batch[product.name] + kernels.ZERO_POINT).astype(np.int64)
            weights = kernels.int8_codes(product.k, product.n).astype(np.int64)
            weights[1::2] = weights[0::2][: len(weights) // 2]  # neighbours of one sign, up to 127 each
            pairs = [
                np.clip(codes[:, i : i + 2] @ weights[i : i + 2], -(2**15), 2**15 - 1) for i in range(0, product.k, 2)
            ]
            total = sum(pairs) - kernels.ZERO_POINT * weights.sum(axis=0)
            results.append(total.astype(np.float32) * kernels.column_scales(product.n))
        return np.concatenate(results, axis=1)

    assert "weights" in first_wrong(Precision.INT8, saturating)


class Saturating(GraphSession):
    """onnxruntime on a CPU whose sums of two int8 activations saturate: results are wrong where those are allowed."""

    def __init__(self, graph, plan, options=None):
        super().__init__(graph, plan, options)
        self._signed = plan.signed_products

    def run(self, batch):
        return super().run(batch) + (1 if self._signed else 0)


def test_int8_serves_without_signed_products_where_their_sums_saturate(fresh, tmp_path, monkeypatch, caplog):
    """A CPU that names VNNI and has other kernels: the precision stays, its products of activations are uint8."""
    box = replace(read_cpu_budget(), isa=("avx2", "avx_vnni"))
    planned = plan_model(write_model(tmp_path / "tiny"), Wishes(device="cpu"), cpu=box)
    assert planned.plans[0].signed_products
    monkeypatch.setattr(kernels, "GraphSession", Saturating)
    with caplog.at_level(logging.WARNING, "siglip_edge"):
        model = planned.open()
    assert (model.plan.precision, model.plan.signed_products, model.plan.refused) == (Precision.INT8, False, ())
    assert "computed in uint8" in caplog.text


def test_neighbours_of_two_activations_pass_sixteen_bits():
    """Their sum with the greatest activations saturates where a CPU adds pairs, so the check sees such a CPU."""
    for product in PRODUCTS[Precision.INT8]:
        if product.of_activations:
            right = kernels.right_side(product).astype(int)
            pairs = right[0 : product.k - product.k % 2 : 2] + right[1::2]
            assert (255 * np.abs(pairs)[: kernels.BLOCK // 2]).max() > 2**15
            assert (right.min(), right.max()) == (-127, 127)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_sum_is_exact_in_float32(precision):
    """Even the sum of all magnitudes is below 2^24, so a right kernel may add in any order."""
    for product in PRODUCTS[precision]:
        given = np.abs(kernels.activations(product, max(ROWS))).astype(np.float64)
        if product.precision is Precision.INT8:
            right = kernels.right_side if product.of_activations else lambda one: kernels.int8_codes(one.k, one.n)
            most = (given + kernels.ZERO_POINT) @ np.abs(right(product).astype(np.float64))
        else:
            codes, zero, scale = (part.astype(np.float64) for part in kernels.blocks(product))
            weights = (codes + np.repeat(zero, BLOCK, axis=0)) * np.repeat(scale, BLOCK, axis=0)
            most = given @ weights[: product.k]
        assert most.max() < EXACT_FLOATS


def test_the_values_are_those_that_go_wrong():
    """All weights and activations of their range, pairs at the limit of AVX2, blocks that reach 127."""
    assert (kernels.BLOCK, kernels.PAIR_LIMIT) == (BLOCK, PAIR_LIMIT)
    for product in PRODUCTS[Precision.INT8]:
        codes = kernels.int8_codes(product.k, product.n).astype(int)
        even, odd = codes[0::2][: product.k // 2], codes[1::2]
        same_sign = (even < 0) == (odd < 0)
        assert (np.abs(even + odd)[same_sign].max(), codes.min(), codes.max()) == (PAIR_LIMIT, -127, 127)
        assert np.unique(kernels.activations(product, max(ROWS))).size == 256
    for product in PRODUCTS[Precision.INT4]:
        given = kernels.activations(product, max(ROWS))
        assert all(
            np.abs(given[:, start : start + BLOCK]).max(axis=1).min() == 127 for start in range(0, product.k, 32)
        )
        assert np.unique(kernels.blocks(product)[0]).size == 2**product.bits


def wrong_from_33_rows(monkeypatch, precisions):
    """onnxruntime with a kernel that is wrong from 33 rows on, as AMX had it."""

    class Spoilt(GraphSession):
        def __init__(self, graph, plan, options=None):
            super().__init__(graph, plan, options)
            self._spoilt = plan.precision in precisions

        def run(self, batch):
            result = super().run(batch)
            return result + 1 if self._spoilt and len(result) > 32 else result

    monkeypatch.setattr(kernels, "GraphSession", Spoilt)


def test_a_wrong_kernel_refuses_the_precision_and_the_next_one_serves(fresh, tmp_path, monkeypatch, caplog):
    """INT8 is refused in words at level ERROR; FP32 serves."""
    directory = add_precision(write_model(tmp_path / "tiny"), Precision.FP32)
    wrong_from_33_rows(monkeypatch, {Precision.INT8})
    with caplog.at_level(logging.ERROR, "siglip_edge"):
        model = open_model(directory, Wishes(device="cpu"))
    assert model.plan.precision is Precision.FP32
    (refused,) = model.plan.refused
    assert refused.startswith("int8 on CPUExecutionProvider: onnxruntime ")
    assert "multiplies int8 matrices wrongly on this CPU" in refused
    assert "8-bit weights, 33 x 64 times 64 x 64" in refused
    assert refused in caplog.text


def test_a_precision_that_was_asked_for_is_an_error(fresh, tmp_path, monkeypatch):
    """PRECISION=int8 on a CPU with wrong kernels: one sentence, and no other precision in silence."""
    directory = add_precision(write_model(tmp_path / "tiny"), Precision.FP32)
    wrong_from_33_rows(monkeypatch, {Precision.INT8})
    with pytest.raises(WrongKernels, match="install another version of onnxruntime"):
        open_model(directory, Wishes(device="cpu", precision=Precision.INT8))


def test_float_precisions_and_cuda_do_not_depend_on_it(fresh, monkeypatch):
    """FP32 and FP16 have no integer kernels, CUDA has its own; nodes that OpenVINO leaves run on the CPU."""
    wrong_from_33_rows(monkeypatch, set(PRECISIONS))
    for harmless in (plan_of(Precision.FP32), plan_of(Precision.FP16), plan_of(Precision.INT8, CUDA)):
        check_kernels(harmless)
    for precision in PRECISIONS:
        with pytest.raises(WrongKernels):
            check_kernels(plan_of(precision, OPENVINO))


def test_a_process_checks_once(fresh, monkeypatch):
    """The second model of a process does not wait for the check again."""
    opened = []

    def counted(graph, plan):
        opened.append(graph)
        return GraphSession(graph, plan)

    monkeypatch.setattr(kernels, "GraphSession", counted)
    for _ in range(2):
        check_kernels(plan_of(Precision.INT8))
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("release", "machine", "why"),
    [
        ("1.24.4", "x86_64", "older than 1.25"),
        ("1.9.0", "aarch64", "older than 1.25"),
        ("1.27.0", "aarch64", "wrong results on arm64"),
        ("1.27.0", "x86_64", ""),
        ("1.25.0", "aarch64", ""),
        ("1.32.0.dev20261101", "x86_64", ""),
        ("2.0.0", "x86_64", ""),
    ],
)
def test_excluded_releases_are_named(release, machine, why):
    assert why in excluded(release, machine)
    assert bool(why) == bool(excluded(release, machine))


def test_an_old_release_is_told_once(fresh, tmp_path, monkeypatch, caplog):
    """One WARNING per process, however many models it opens; the checks decide whether it serves."""
    directory = write_model(tmp_path / "tiny")
    monkeypatch.setattr(kernels, "version", lambda: "1.24.1")
    with caplog.at_level(logging.WARNING, "siglip_edge"):
        for _ in range(2):
            assert open_model(directory, Wishes(device="cpu")).plan.precision is Precision.INT8
    (record,) = caplog.records
    assert record.getMessage().startswith("onnxruntime 1.24.1 is older than 1.25")
