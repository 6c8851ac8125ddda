"""Norms, cosines and probabilities."""

import numpy as np
import pytest

from siglip_edge.runtime.scoring import l2_normalize, probability, similarity, softmax

RNG = np.random.default_rng(0)


def test_rows_have_unit_length_and_zero_stays_zero():
    rows = np.vstack([RNG.standard_normal((5, 7)), np.zeros((1, 7))]).astype(np.float32)
    unit = l2_normalize(rows)
    assert unit.dtype == np.float32
    assert np.allclose(np.linalg.norm(unit[:5], axis=1), 1, atol=1e-6)
    assert not unit[5].any()


@pytest.mark.parametrize("count", [1, 2, 3, 17])
def test_a_rows_bits_do_not_depend_on_its_neighbours(count):
    """Alone and in company: the same norm, the same cosine, to the last bit."""
    rows = RNG.standard_normal((count, 768)).astype(np.float32)
    query = l2_normalize(RNG.standard_normal((1, 768)).astype(np.float32))
    together = l2_normalize(rows)
    for index in range(count):
        alone = l2_normalize(rows[index : index + 1])
        assert np.array_equal(alone[0], together[index])
        assert similarity(query, alone)[0, 0] == similarity(query, together)[0, index]


def test_the_probability_is_siglips_sigmoid():
    """sigmoid(scale·cos + bias), by the definition, and finite at both ends."""
    cosine = np.array([-1.0, 0.0, 0.1, 0.142857, 1.0], np.float32)
    expected = 1 / (1 + np.exp(-(112.0 * cosine.astype(np.float64) - 16.0)))
    assert np.allclose(probability(cosine, 112.0, -16.0), expected, atol=1e-6)
    assert np.isfinite(probability(np.array([-1e9, 1e9], np.float32), 112.0, -16.0)).all()


def test_the_softmax_reads_labels_as_exclusive():
    """Sums to one, keeps the order, and is unmoved by the bias."""
    cosine = np.array([[0.1, 0.3, 0.2]], np.float32)
    shares = softmax(cosine, 112.0)
    assert np.isclose(shares.sum(), 1)
    assert shares.argsort().tolist() == [[0, 2, 1]]
