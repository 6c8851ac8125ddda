"""Refused callers are told different times to ask again, at the pace of the work."""

import pytest

from siglip_edge.server.batching.retry_after import LONGEST_S, RetryAfter


@pytest.fixture
def clock():
    """A settable time."""

    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


def test_one_by_one_behind_what_waits(clock):
    """A crowd that is refused at one moment comes back at the pace of the work."""
    turns = RetryAfter(clock)
    assert [turns.next(backlog_s=3, own_s=0.5) for _ in range(4)] == [3.0, 3.5, 4.0, 4.5]


def test_times_that_have_passed_are_forgotten(clock):
    turns = RetryAfter(clock)
    for _ in range(4):
        turns.next(backlog_s=3, own_s=0.5)
    clock.now += 4
    assert turns.next(backlog_s=0.25, own_s=0.5) == pytest.approx(1.05), "behind the last one, who was told 1004.5"
    clock.now += 100
    assert turns.next(backlog_s=0.25, own_s=0.5) == 0.25


def test_who_comes_back_in_vain_spreads_the_times(clock):
    """Those who were admitted meanwhile bring them together again."""
    turns = RetryAfter(clock)
    crowd = [turns.next(backlog_s=1, own_s=0.1) for _ in range(50)]
    assert crowd[-1] == pytest.approx(5.9), "a crowd of one moment came back to nothing yet"
    clock.now += 1
    again = [turns.next(backlog_s=1, own_s=0.1) for _ in range(50)]
    assert again[1] - again[0] == pytest.approx(0.121)
    assert again[-1] - again[-2] == pytest.approx(0.4)
    for _ in range(200):
        turns.taken()
    assert turns.next(backlog_s=1, own_s=0.1) - again[-1] == pytest.approx(0.11)


def test_nobody_waits_longer_than_clients_heed(clock):
    turns = RetryAfter(clock)
    assert max(turns.next(backlog_s=3, own_s=5) for _ in range(100)) == LONGEST_S


def test_a_longer_backlog_is_told_as_it_is(clock):
    assert [RetryAfter(clock).next(backlog_s=200, own_s=5) for _ in range(2)] == [200, 200]
