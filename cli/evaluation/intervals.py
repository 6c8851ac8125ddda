"""95 % confidence intervals and paired tests. Pure; docs/evaluate.md names the source of each formula."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from siglip_edge.cli.evaluation.results import Estimate

Z = statistics.NormalDist().inv_cdf(0.975)


def share(right: int, of: int) -> Estimate:
    """`right` of `of` trials, with Wilson's score interval (Wilson 1927), which stays within 0 and 1."""
    if of == 0:
        return Estimate(math.nan, 0.0, 1.0)
    value, weight = right / of, Z * Z / of
    middle = (value + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(value * (1 - value) / of + weight / (4 * of))
    return Estimate(value, max(0.0, middle - half), min(1.0, middle + half))


def mean(values: Sequence[float]) -> Estimate:
    """The mean of values from 0 to 1, plus and minus Z standard errors."""
    value = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(value, 0.0, 1.0)
    half = Z * statistics.stdev(values) / math.sqrt(len(values))
    return Estimate(value, max(0.0, value - half), min(1.0, value + half))


def correlation(value: float, pairs: int, *, of_ranks: bool) -> Estimate:
    """Fisher's transformation (1915); for ranks with the variance of Bonett and Wright (2000), (1 + r²/2) / (n - 3)."""
    if pairs <= 3 or abs(value) >= 1:
        return Estimate(value, -1.0 if pairs <= 3 else value, 1.0 if pairs <= 3 else value)
    half = Z * math.sqrt((1 + value**2 / 2 if of_ranks else 1) / (pairs - 3))
    return Estimate(value, math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half))


def difference(only_first: int, only_second: int, of: int) -> Estimate:
    """Difference of two shares of the same trials, plus and minus Z standard errors of paired shares."""
    value = (only_first - only_second) / of
    half = Z * math.sqrt(max(0.0, only_first + only_second - (only_first - only_second) ** 2 / of)) / of
    return Estimate(value, max(-1.0, value - half), min(1.0, value + half))


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact test of McNemar (1947): a fair coin for each trial that exactly one of the two models won."""
    trials, fewer = only_first + only_second, min(only_first, only_second)
    logs = (math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(math.exp(log - trials * math.log(2)) for log in logs))
