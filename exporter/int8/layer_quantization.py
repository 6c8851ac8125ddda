"""How one linear layer is computed in INT8: range, smoothing and weights with the least error in its output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.calibration import Observation
from siglip_edge.exporter.int8 import ranges
from siglip_edge.exporter.int8.cancellation import cancelling_codes
from siglip_edge.exporter.int8.ranges import Histogram, Range
from siglip_edge.exporter.int8.smoothing import smoothing

Floats = NDArray[np.float32]

PAIR_LIMIT = 127
"""AVX2 without VNNI adds two uint8 x int8 products in a saturating int16: 255 · (w_1 + w_2) must stay below 2^15, so
two neighbours of one sign may sum to 128, and rounding may add one. Limiting pairs rather than every weight to 7 bits
is as safe and leaves steps a third finer."""

SMOOTHED_BELOW = 0.5
"""Smoothing is used where it leaves less than this share of the error. It puts every channel at the edge of the range,
where unseen rows pass it sooner, and away from a LayerNorm it costs a pass over the activation."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One linear layer, (m, k) x (k, n), in INT8."""

    span: Range
    """Of the activation, after smoothing."""
    smoothing: Floats | None
    """(k,) divisors of the activation's channels; already multiplied into `weight`."""
    weight: NDArray[np.int8]
    """(k, n) symmetric."""
    scale: Floats
    """(n,) of the weights, one per output channel."""
    error: float
    """Squared error of the output over its square, on the calibration sample."""
    method: str
    shift: Floats | None = None
    """(n,) added to the bias that follows: the mean error of each output channel, on the calibration sample."""


def plain(seen: Observation, weight: Floats) -> Recipe:
    """Min-max ranges and no smoothing, as most quantizers do."""
    return next(_recipes(seen, weight, None))


def best(seen: Observation, weight: Floats) -> Recipe:
    """The recipe with the least error; smoothed only where that helps much."""
    divisors = smoothing(np.maximum(-seen.low, seen.high), weight)
    unsmoothed, smoothed = (min(_recipes(seen, weight, by), key=lambda recipe: recipe.error) for by in (None, divisors))
    return smoothed if smoothed.error < SMOOTHED_BELOW * unsmoothed.error else unsmoothed


def cancelling(recipe: Recipe, seen: Observation, weight: Floats) -> Recipe:
    """`recipe` with codes whose errors cancel each other, and a bias that takes the mean of what is left."""
    divide = np.asarray(1 if recipe.smoothing is None else recipe.smoothing, np.float64)
    inputs, scale = seen.sample / divide, recipe.scale.astype(np.float64)
    exact = weight * divide.reshape(-1, 1)
    codes = cancelling_codes(exact, inputs, scale, PAIR_LIMIT)
    output = inputs @ exact
    off = ranges.rounded(inputs.astype(np.float32), recipe.span) @ (codes * scale) - output
    shift = -off.mean(axis=0)
    error = float(np.square(off + shift).mean() / max(float(np.square(output).mean()), 1e-30))
    return replace(recipe, weight=codes, shift=shift.astype(np.float32), error=error)


def _recipes(seen: Observation, weight: Floats, divisors: Floats | None) -> Iterator[Recipe]:
    """One recipe per range method, min-max first."""
    divide = divisors if divisors is not None else np.float32(1)
    codes, scale = quantize_weight(weight * np.reshape(divide, (-1, 1)))
    sample, exact, approximate = seen.sample / divide, seen.sample @ weight, codes * scale
    histogram = _histogram(seen, divide)
    for name, method in ranges.METHODS.items():
        span = method(histogram)
        off = ranges.rounded(sample, span) @ approximate - exact
        error = float(np.square(off).mean() / max(float(np.square(exact).mean()), 1e-30))
        yield Recipe(
            span=span,
            smoothing=divisors,
            weight=codes,
            scale=scale,
            error=error,
            method=name,
        )


def quantize_weight(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """(k, n) -> int8 codes (k, n), such that PAIR_LIMIT holds, and scales (n,), one per output channel."""
    scale = np.maximum(_pair_sums(weight).max(axis=0) / PAIR_LIMIT, np.finfo(np.float32).tiny).astype(np.float32)
    return np.clip(np.rint(weight / scale), -PAIR_LIMIT, PAIR_LIMIT).astype(np.int8), scale


def _pair_sums(weight: Floats) -> Floats:
    """(k, n) -> (k / 2, n): the larger of the sums of two neighbours' positive and negative parts."""
    even = np.pad(weight, ((0, len(weight) % 2), (0, 0))).reshape(-1, 2, weight.shape[1])
    return np.asarray(np.maximum(np.maximum(even, 0).sum(axis=1), np.maximum(-even, 0).sum(axis=1)))


def _histogram(seen: Observation, divide: Floats | np.float32 = np.float32(1)) -> Histogram:  # noqa: B008 - a constant
    def reach(low: Floats, high: Floats) -> Range:
        return float((low / divide).min()), float((high / divide).max())

    return Histogram.of(seen.sample / divide, *reach(seen.low, seen.high), reach(seen.mean_low, seen.mean_high))
