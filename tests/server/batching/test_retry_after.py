"""Refused clients are told different times to ask again, none before the backlog is done."""

import math

import pytest

from siglip_edge.server.batching.retry_after import LONGEST_S, SPREAD_S, retry_after


def test_a_crowd_that_is_refused_at_one_moment_returns_apart():
    """The header has whole seconds; each of them is told to somebody."""
    told = {max(1, math.ceil(retry_after(0.0))) for _ in range(500)}
    assert told == set(range(1, math.ceil(SPREAD_S) + 1))


@pytest.mark.parametrize(("backlog_s", "latest_s"), [(0.5, 0.5 + SPREAD_S), (5, 20), (50, LONGEST_S)])
def test_nobody_returns_before_the_backlog_is_done_nor_much_later(backlog_s, latest_s):
    told = [retry_after(backlog_s) for _ in range(500)]
    assert backlog_s <= min(told) < max(told) <= latest_s


def test_a_backlog_longer_than_clients_heed_is_told_as_it_is():
    assert retry_after(200) == 200
