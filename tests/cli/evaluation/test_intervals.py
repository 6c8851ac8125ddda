"""Confidence intervals, compared with statsmodels 0.14 and SciPy 1.16."""

import math

import pytest

from siglip_edge.cli.evaluation import intervals
from siglip_edge.cli.evaluation.results import Estimate


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [
        (3, 25, 0.04166817, 0.29955794),
        (0, 10, 0.0, 0.27753280),
        (10, 10, 0.72246720, 1.0),
        (612, 1000, 0.58142392, 0.64171888),
    ],
)
def test_a_share_has_wilsons_interval(right, of, low, high):
    """As `proportion_confint(method="wilson")` gives it."""
    share = intervals.share(right, of)
    assert share.value == right / of
    assert (share.low, share.high) == pytest.approx((low, high), abs=1e-7)


def test_a_correlation_has_fishers_interval():
    """As `scipy.stats.pearsonr(x, y).confidence_interval()` gives it."""
    found = intervals.correlation(0.8777247476973205, 40, of_ranks=False)
    assert (found.low, found.high) == pytest.approx((0.7792878713917579, 0.9338903084229455))


def test_a_correlation_of_ranks_is_less_certain():
    of_ranks, of_values = (intervals.correlation(0.8, 40, of_ranks=of_ranks) for of_ranks in (True, False))
    assert of_ranks.low < of_values.low < of_values.high < of_ranks.high


@pytest.mark.parametrize(("only_first", "only_second", "p"), [(3, 12, 0.03515625), (5, 5, 1.0), (0, 0, 1.0)])
def test_mcnemars_test_is_exact(only_first, only_second, p):
    """As `statsmodels.stats.contingency_tables.mcnemar(exact=True)` gives it."""
    assert intervals.mcnemar(only_first, only_second) == pytest.approx(p)
    assert intervals.mcnemar(only_second, only_first) == pytest.approx(p)


def test_a_difference_of_the_same_inputs_counts_only_those_that_differ():
    """The variance of paired shares: (b + c - (b - c)² / n) / n²."""
    found = intervals.difference(12, 3, 100)
    assert found.value == pytest.approx(0.09)
    assert (found.high - found.low) / 2 == pytest.approx(intervals.Z * math.sqrt(15 - 0.81) / 100)


def test_equal_values_have_no_spread():
    assert intervals.mean([0.5, 0.5]) == Estimate(0.5, 0.5, 0.5)
    assert intervals.mean([0.5]) == Estimate(0.5, 0.0, 1.0)
