"""Which values of an activation get a code, and which are clipped: histogram -> (low, high). Pure.

A wide range rounds everything coarsely, a narrow one cuts off rare values: each method is one opinion on the trade
(Wu et al. 2020, "Integer Quantization for Deep Learning Inference", §5). No opinion is right for every activation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Range = tuple[float, float]

LEVELS = 255
"""Steps between the codes of a byte."""
_BINS = 2040
"""Eight to a step of the full range."""
_SHRINKING = np.linspace(1.0, 0.2, 33)
"""Shares of the full range that searches try, one end at a time."""


@dataclass(frozen=True)
class Histogram:
    """Counts of an activation's values in equal bins over [low, high]; zero is within, so that zero has a code."""

    low: float
    high: float
    counts: NDArray[np.int64]
    usual: Range
    """Means of every row's extremes; [low, high] where rows are not known."""

    @classmethod
    def of(cls, values: NDArray[np.float32], low: float, high: float, usual: Range | None = None) -> Histogram:
        """`low` and `high` are the extremes of everything seen, of which `values` may be a sample."""
        low, high = min(low, 0.0), max(high, 0.0, min(low, 0.0) + 1e-12)
        usual = (min(usual[0], 0.0), max(usual[1], 0.0)) if usual else (low, high)
        return cls(low, high, np.histogram(values, _BINS, (low, high))[0], usual)

    @property
    def centres(self) -> NDArray[np.float64]:
        width = (self.high - self.low) / _BINS
        return np.asarray(self.low + width * (np.arange(_BINS) + 0.5))


def affine(span: Range) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of a range, for uint8 codes: value = scale · (code - zero point)."""
    low, high = span
    scale = np.float32(max(high - low, 1e-12) / LEVELS)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, LEVELS))


def rounded(values: NDArray[np.float32], span: Range) -> NDArray[np.float32]:
    """What is left of values after uint8 codes. Any shape."""
    scale, zero = affine(span)
    codes = np.clip(np.rint(values / scale) + zero, 0, LEVELS)
    return np.asarray((codes - zero) * scale, np.float32)


def min_max(histogram: Histogram) -> Range:
    """Everything seen; nothing is clipped."""
    return histogram.low, histogram.high


def moving_average(histogram: Histogram) -> Range:
    """Every channel's extremes averaged over the rows: the extremes of a rare row are clipped."""
    return histogram.usual


def percentile(histogram: Histogram, kept: float = 0.9999) -> Range:
    """The range that `kept` of all values lie in, as many cut off at either end."""
    below = np.cumsum(histogram.counts) / histogram.counts.sum()
    tail = (1 - kept) / 2
    inside = histogram.centres[(below >= tail) & (below <= 1 - tail)]
    return (min(float(inside[0]), 0.0), max(float(inside[-1]), 0.0)) if len(inside) else min_max(histogram)


def least_square(histogram: Histogram) -> Range:
    """Least mean squared error: step² / 12 for every value inside, distance² to the nearest end outside."""
    centres, counts = histogram.centres, histogram.counts

    def error(low: float, high: float) -> float:
        step = (high - low) / LEVELS
        outside = centres - np.clip(centres, low, high)
        return float(counts @ (outside**2 + np.where(outside == 0, step**2 / 12, 0.0)))

    return _narrowed(histogram, error)


def entropy(histogram: Histogram) -> Range:
    """Least Kullback-Leibler divergence of the rounded histogram from the clipped one.

    Migacz 2017, "8-bit Inference with TensorRT", for ranges that need not be symmetric.
    """
    centres, counts = histogram.centres, histogram.counts.astype(np.float64)

    def divergence(low: float, high: float) -> float:
        first, last = np.searchsorted(centres, (low, high))
        kept = counts[first:last].copy()
        if len(kept) <= LEVELS:
            return np.inf
        shown = _spread(kept)
        kept[0] += counts[:first].sum()
        kept[-1] += counts[last:].sum()
        seen = kept > 0
        p, q = kept[seen] / kept.sum(), np.maximum(shown[seen], 1e-9) / max(shown.sum(), 1.0)
        return float(p @ np.log(p / q))

    return _narrowed(histogram, divergence)


def _spread(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is left of a histogram after 256 codes: every group's total spread over its bins that are not empty."""
    group = np.arange(len(counts)) * (LEVELS + 1) // len(counts)
    full = counts > 0
    share = np.bincount(group, counts) / np.maximum(np.bincount(group, full), 1)
    return np.where(full, share[group], 0.0)


def _narrowed(histogram: Histogram, cost: Callable[[float, float], float]) -> Range:
    """The cheapest range, found by moving one end and then the other: long tails are mostly on one side."""
    low, high = histogram.low, histogram.high
    if high > 0:
        high = min(_shares(high), key=lambda end: cost(low, end))
    if low < 0:
        low = min(_shares(low), key=lambda end: cost(end, high))
    return low, high


def _shares(end: float) -> Iterator[float]:
    return (float(end * share) for share in _SHRINKING)


METHODS: dict[str, Callable[[Histogram], Range]] = {
    "min-max": min_max,
    "moving-average": moving_average,
    "percentile": percentile,
    "least-square": least_square,
    "entropy": entropy,
}
