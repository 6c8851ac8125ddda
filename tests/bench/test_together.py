"""Compared servers take turns, so that the speed of the machine cancels out."""

import pytest

from siglip_edge.bench.bare import waits
from siglip_edge.bench.together import of_those_around


def test_each_turn_is_compared_with_its_neighbours():
    """A machine that halves its speed on the way halves both; what is left is the turns' own 0.9 and 0.8."""
    order: list[str] = []
    others = iter([100.0, 100.0, 50.0])

    def turn(name: str, rate: float):
        def taken() -> float:
            order.append(name)
            return rate

        return taken

    def other() -> float:
        order.append("other")
        return next(others)

    shares = of_those_around([turn("first", 90.0), turn("second", 60.0)], other)
    assert order == ["other", "first", "other", "second", "other"]
    assert shares == pytest.approx([0.9, 0.8])


def test_without_turns_nothing_is_measured_for_nothing():
    """Without another server, our server takes no turn for a comparison."""
    assert of_those_around([], lambda: pytest.fail("a turn beside nothing")) == []


def test_bare_calls_wait_as_answers_do():
    """Of one call each second and a hiccup of three, four calls take four seconds or seven."""
    ends = [0.0, 1.0, 2.0, 3.0, 4.0, 8.0, 9.0]
    assert waits(ends, 4) == [4, 7, 7]


def test_a_window_too_short_for_a_wait_is_one():
    assert waits([0.0, 0.4, 0.5], 8) == [0.5]
