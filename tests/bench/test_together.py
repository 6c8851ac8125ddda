"""What is compared takes turns with what it is compared with."""

import pytest

from bench.together import of_those_around


def test_each_turn_is_compared_with_its_neighbours():
    """A machine that halves its speed on the way halves both; what is left is the turns' own 0.9 and 0.8."""
    order: list[str] = []
    others = iter([100.0, 100.0, 50.0])

    def turn(name: str, rate: float):
        return lambda: order.append(name) or rate

    def other() -> float:
        order.append("other")
        return next(others)

    shares = of_those_around([turn("first", 90.0), turn("second", 60.0)], other)
    assert order == ["other", "first", "other", "second", "other"]
    assert shares == pytest.approx([0.9, 0.8])
