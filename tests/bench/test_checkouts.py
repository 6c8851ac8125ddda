"""The comparison of two checkouts: a median and its error."""

import random

from siglip_edge.bench.checkouts import with_error


def test_the_error_of_a_median_shrinks_with_its_values_and_ignores_an_outlier():
    rng = random.Random(0)
    values = [rng.gauss(1.0, 0.1) for _ in range(400)]
    assert with_error([*values, 1000.0]) == "0.994 ± 0.006"
    assert with_error([1.0, 1.0, 1.0]) == "1.000 ± 0.000"
