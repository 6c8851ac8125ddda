"""The kernel check: onnxruntime's integer products on this CPU, compared bit by bit with NumPy's.

Releases of onnxruntime multiplied small integers wrongly on some instruction sets, for some numbers of rows, without an
error. Golden rows see the sum of a whole tower, where such an error can hide. This check sees single products, in the
number formats of the exporter's graphs (`PRODUCTS`), and takes milliseconds.

All values are small integers and powers of two, so every sum is exact in float32 and a right kernel gives equal bits
in any order of summation. `exporter/kernel_graphs.py` writes the graphs from the same formulas.
docs/decisions/kernel-check.md has the reasons and the measurements.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.manifest import Precision
from siglip_edge.runtime.errors import ModelError, WrongKernels
from siglip_edge.runtime.execution.plan import CPU, CUDA, ExecutionPlan
from siglip_edge.runtime.execution.session import GraphSession, version
from siglip_edge.runtime.machine.cpu import read_cpu_budget

logger = logging.getLogger("siglip_edge")

Floats = NDArray[np.float32]
Compute = Callable[[Mapping[str, Floats]], Floats]
"""Named activations -> the results of all products, side by side."""

ROWS = (1, 2, 3, 4, 5, 6, 8, 16, 31, 32, 33, 64, 97)
"""Kernels for one row, for up to 6, 16 and 32 rows, and remainders. The known faults began at 1, 5 and 33 rows."""

SHAPES = ((64, 64), (68, 61), (192, 96), (259, 131))
"""(k, n) of the weights: whole tiles of every kernel, and remainders in both directions."""

BLOCK = 32
"""Weights of a column that share a scale and a zero point in INT4 artifacts."""

PAIR_LIMIT = 127
"""Greatest sum of two neighbouring int8 weights of one sign, as the exporter limits them for AVX2."""

INT8_REACH = 127
"""Greatest magnitude of an int8 activation's code."""

ZERO_POINT = 100
"""Of the uint8 activations of INT8 artifacts."""

_MIX = 2654435761
"""2^32 divided by the golden ratio, a prime: multiplication by it scatters numbers (Knuth, volume 3, section 6.4)."""

OLDEST = (1, 25)
"""Before 1.25, integer kernels were wrong on AVX-VNNI and AMX (onnxruntime's pull request 27671), and results on arm64
(issue 27510)."""

WRONG_ON_ARM64 = "1.27.0"
"""Its new arm64 kernels give wrong results (onnxruntime's issue 28571)."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """Activations (m, k) times weights (k, n) of `bits` bits."""

    precision: Precision
    bits: int
    k: int
    n: int
    of_activations: bool = False
    """Whether the right side is an activation, too, an input of the graph with whole int8 codes."""

    @property
    def name(self) -> str:
        """Name of the activations in the graph."""
        return f"{self.bits}_bits_{self.k}x{self.n}{'_activations' if self.of_activations else ''}"

    @property
    def right(self) -> str:
        """Name of the right side in the graph."""
        return f"{self.name}/weight"


PRODUCTS: Mapping[Precision, tuple[Product, ...]] = {
    Precision.INT8: tuple(
        Product(precision=Precision.INT8, bits=8, k=k, n=n, of_activations=both)
        for both in (False, True)
        for k, n in SHAPES
    ),
    Precision.INT4: tuple(Product(precision=Precision.INT4, bits=bits, k=k, n=n) for bits in (4, 8) for k, n in SHAPES),
}
"""The products of each precision that has integer kernels: uint8 activations times int8 weights or int8 activations in
INT8 artifacts, weights in blocks of 4 or 8 bits in INT4 artifacts."""


def graph_path(precision: Precision) -> Path:
    """The graph that holds `PRODUCTS[precision]`."""
    return Path(__file__).with_name(f"kernels_{precision}.onnx")


def check_kernels(plan: ExecutionPlan) -> None:
    """Raise WrongKernels when onnxruntime's kernels for the plan's precision are wrong on this CPU.

    Tests the CPU provider, once per process. A plan on OpenVINO is tested too, because nodes that OpenVINO does not
    know run on the CPU provider. CUDA has kernels of its own, which only the golden rows judge.
    """
    if plan.provider == CUDA or plan.precision not in PRODUCTS:
        return
    if wrong := _wrong_here(plan.precision, plan.intra_op_threads, signed=plan.signed_products):
        raise WrongKernels(
            f"onnxruntime {version()} multiplies {plan.precision} matrices wrongly on this CPU "
            f"({' '.join(read_cpu_budget().isa)}): {wrong}; install another version of onnxruntime"
        )


def with_right_products(plan: ExecutionPlan) -> ExecutionPlan:
    """The plan, without signed products where their sums are wrong although the CPU names an instruction for them."""
    if not plan.signed_products or not _wrong_here(plan.precision, plan.intra_op_threads, signed=True):
        return plan
    logger.warning("products of two activations are computed in uint8, because sums of int8 are wrong on this CPU")
    return replace(plan, signed_products=False)


def examine_kernels() -> dict[Precision, str]:
    """Precision -> the first wrong product on this CPU; empty when all products are right."""
    return {precision: _wrong_here(precision, 1, signed=False) for precision in PRODUCTS}


def excluded(release: str, machine: str) -> str:
    """Why pyproject.toml excludes this release of onnxruntime on this machine, in words; empty when it does not."""
    major, minor, *_ = release.split(".")
    if (int(major), int(minor)) < OLDEST:
        return (
            f"onnxruntime {release} is older than {OLDEST[0]}.{OLDEST[1]} and multiplies integers wrongly on some CPUs"
        )
    if release == WRONG_ON_ARM64 and machine == "aarch64":
        return f"onnxruntime {release} gives wrong results on arm64"
    return ""


@cache
def warn_of_release() -> None:
    """Log why the installed onnxruntime is excluded, once per process. The checks decide whether it may serve."""
    if why := excluded(version(), platform.machine()):
        logger.warning("%s; the kernel check and the golden rows decide here; pip install -U 'siglip-edge[cpu]'", why)


@cache
def _wrong_here(precision: Precision, threads: int, *, signed: bool) -> str:
    plan = ExecutionPlan(
        provider=CPU, precision=precision, intra_op_threads=threads, signed_products=signed, reason="kernel check"
    )
    try:
        return first_wrong(precision, GraphSession(graph_path(precision), plan).run)
    except ModelError as error:
        return str(error)


def first_wrong(precision: Precision, compute: Compute) -> str:
    """The first product that `compute` gets wrong, in words; empty when all are right."""
    most = {product: activations(product, max(ROWS)) for product in PRODUCTS[precision]}
    expected = {product: exact(product, given) for product, given in most.items()}
    ends = np.cumsum([product.n for product in expected])[:-1]
    right = {product.right: right_side(product) for product in expected if product.of_activations}
    for rows in ROWS:
        got = compute({product.name: given[:rows] for product, given in most.items()} | right)
        for product, columns in zip(expected, np.split(got, ends, axis=1), strict=True):
            if not np.array_equal(columns, expected[product][:rows]):
                kind = "activations" if product.of_activations else "weights"
                return f"{product.bits}-bit {kind}, {rows} x {product.k} times {product.k} x {product.n}"
    return ""


def activations(product: Product, rows: int) -> Floats:
    """(rows, k) integers as float32, which the operator's rounding to 8 bits leaves as they are.

    INT8: all of the uint8 range, with a run of the greatest value. INT4: every block reaches 127, for a scale of 1.
    """
    if product.precision is Precision.INT8:
        codes = _numbers(rows, product.k) % 256
        codes[:, : min(BLOCK, product.k // 2)] = 255
        return (codes - ZERO_POINT).astype(np.float32)
    values = _numbers(rows, product.k) % 255 - 127
    values[:, ::BLOCK] = 127
    return values.astype(np.float32)


def exact(product: Product, given: Floats) -> Floats:
    """The product by NumPy, in integers. (rows, k) -> (rows, n)."""
    if product.of_activations:
        return (given.astype(np.int64) @ right_side(product).astype(np.int64)).astype(np.float32)
    if product.precision is Precision.INT8:
        return (given.astype(np.int64) @ int8_codes(product.k, product.n)).astype(np.float32) * column_scales(product.n)
    codes, zero, scale = blocks(product)
    weights = (codes.astype(np.int64) - np.repeat(zero, BLOCK, axis=0)) * np.repeat(
        scale.astype(np.int64), BLOCK, axis=0
    )
    return (given.astype(np.int64) @ weights[: product.k]).astype(np.float32)


def right_side(product: Product) -> Floats:
    """(k, n) of a product of two activations: all values of int8 in no order, so that sums of pairs pass int16."""
    return (_numbers(product.k, product.n) % (2 * INT8_REACH + 1) - INT8_REACH).astype(np.float32)


def int8_codes(k: int, n: int) -> NDArray[np.int8]:
    """(k, n): even rows take all values; of the odd rows, half fill PAIR_LIMIT up and half have the other sign."""
    numbers = _numbers(k + k % 2, n)
    first = numbers[0::2] % (2 * PAIR_LIMIT + 1) - PAIR_LIMIT
    sign = np.where(first < 0, -1, 1)
    second = np.where(
        numbers[1::2] % 2, sign * (PAIR_LIMIT - np.abs(first)), -sign * (numbers[1::2] % (PAIR_LIMIT + 1))
    )
    return np.stack([first, second], axis=1).reshape(-1, n)[:k].astype(np.int8)


def column_scales(n: int) -> Floats:
    """(n,) powers of two, one scale per column of an INT8 matrix."""
    return np.exp2(np.arange(n) % 5 - 2).astype(np.float32)


def blocks(product: Product) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
    """Codes (blocks * BLOCK, n), zeros beyond k; zero points (blocks, n); scales (blocks, n), 1 or 2."""
    count, top = -(-product.k // BLOCK), 2**product.bits
    codes = _numbers(count * BLOCK, product.n) % top
    codes[product.k :] = 0
    others = _numbers(count, product.n)
    return codes.astype(np.uint8), (others // 2 % top).astype(np.uint8), (1 + others % 2).astype(np.float32)


def _numbers(rows: int, columns: int) -> NDArray[np.int64]:
    """(rows, columns) numbers below 2^16 without a visible pattern; the same in every call and version of NumPy."""
    squares = np.arange(1, rows * columns + 1, dtype=np.int64) ** 2
    return (squares * _MIX % 2**32 // 2**16).reshape(rows, columns)
