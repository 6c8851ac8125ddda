"""Norms, cosines and scores."""

import numpy as np
import pytest

from siglip_edge.runtime.artifacts.manifest import Cosine, Sigmoid, Softmax
from siglip_edge.runtime.scoring import among, l2_normalize, pairwise, score, similarity

RNG = np.random.default_rng(0)
SIGMOID, SOFTMAX, COSINE = Sigmoid(scale=112.0, bias=-16.0), Softmax(scale=100.0), Cosine()


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
    """sigmoid(scale * cos + bias), by the definition, and finite at both ends."""
    cosine = np.array([-1.0, 0.0, 0.1, 0.142857, 1.0], np.float32)
    expected = 1 / (1 + np.exp(-(112.0 * cosine.astype(np.float64) - 16.0)))
    assert np.allclose(pairwise(SIGMOID, cosine), expected, atol=1e-6)
    assert np.isfinite(pairwise(SIGMOID, np.array([-1e9, 1e9], np.float32))).all()


def test_the_softmax_reads_labels_as_exclusive():
    """Sums to one, keeps the order, and is unmoved by the bias."""
    cosine = np.array([[0.1, 0.3, 0.2]], np.float32)
    shares = among(SIGMOID, cosine)
    assert np.isclose(shares.sum(), 1)
    assert shares.argsort().tolist() == [[0, 2, 1]]
    assert np.array_equal(shares, among(Sigmoid(scale=112.0, bias=5.0), cosine))


def test_the_softmax_is_clips():
    """exp(scale * cos) by its sum over the candidates, for every query alone, and finite at any scale."""
    cosine = np.array([[0.1, 0.3, 0.2], [0.2, 0.2, -0.9]], np.float32)
    powers = np.exp(100.0 * cosine.astype(np.float64))
    assert np.allclose(among(SOFTMAX, cosine), powers / powers.sum(axis=1, keepdims=True), atol=1e-6)
    assert np.array_equal(among(SOFTMAX, cosine)[:1], among(SOFTMAX, cosine[:1]))
    assert among(Softmax(scale=1e6), cosine)[0].tolist() == [0, 1, 0]


def test_a_pair_has_a_probability_only_by_a_sigmoid():
    """Of the others no checkpoint knows a calibrated one: the cosine itself, bit for bit."""
    cosine = np.array([[0.25, -0.5]], np.float32)
    assert np.array_equal(pairwise(SOFTMAX, cosine), cosine)
    assert np.array_equal(pairwise(COSINE, cosine), cosine)
    assert np.array_equal(among(COSINE, cosine), cosine), "without a trained scale there is no softmax"


def test_a_score_is_what_the_checkpoint_was_trained_to_give():
    """Candidates compete under a softmax only."""
    cosine = np.array([[0.1, 0.3]], np.float32)
    assert np.array_equal(score(SIGMOID, cosine), pairwise(SIGMOID, cosine))
    assert np.array_equal(score(SOFTMAX, cosine), among(SOFTMAX, cosine))
    assert np.array_equal(score(COSINE, cosine), cosine)
    assert {score(one, cosine).dtype for one in (SIGMOID, SOFTMAX, COSINE)} == {np.dtype(np.float32)}
