"""Ranks, retrieval measures, correlations and calibration, compared with SciPy 1.16 and trec_eval (pytrec_eval)."""

import numpy as np
import pytest

from siglip_edge.cli.evaluation import scores
from siglip_edge.cli.evaluation.datasets import Dataset, Kind
from siglip_edge.cli.evaluation.metrics import Reliability, best_grades, mean_ranks, ndcg, pearson, ranks, spearman
from siglip_edge.runtime.artifacts.manifest import Cosine, Sigmoid, Softmax
from siglip_edge.runtime.scoring import l2_normalize

X = np.array(
    [
        5,
        3,
        3,
        1,
        1,
        0,
        0,
        0,
        1,
        4,
        3,
        5,
        3,
        3,
        5,
        4,
        3,
        3,
        3,
        5,
        1,
        4,
        4,
        0,
        2,
        5,
        3,
        0,
        4,
        4,
        5,
        1,
        0,
        5,
        0,
        3,
        0,
        1,
        2,
        2,
    ],
    np.float32,
)
Y = np.array(
    [
        6,
        3,
        3,
        1,
        1,
        2,
        2,
        2,
        2,
        6,
        6,
        6,
        4,
        6,
        8,
        7,
        4,
        5,
        6,
        7,
        4,
        6,
        6,
        1,
        5,
        5,
        5,
        2,
        7,
        6,
        6,
        2,
        1,
        6,
        2,
        6,
        0,
        4,
        4,
        3,
    ],
    np.float32,
)


def unit(rng, count):
    return l2_normalize(rng.standard_normal((count, 6)).astype(np.float32))


def pairs_of(kind, relevant, grades=None):
    pairs = np.argwhere(relevant)
    return Dataset(
        kind=kind,
        left=[f"left {row}" for row in range(len(relevant))],
        right=[f"right {column}" for column in range(len(relevant[0]))],
        pairs=pairs,
        grades=np.ones(len(pairs), np.float32) if grades is None else grades,
    )


def test_correlations_are_scipys():
    """With many equal values, whose ranks are shared."""
    assert pearson(X, Y) == pytest.approx(0.8777247476973205)
    assert spearman(X, Y) == pytest.approx(0.8702254178313964)


def test_equal_values_share_the_mean_of_their_ranks():
    assert mean_ranks(np.array([7, 3, 7, 1], np.float32)).tolist() == [3.5, 2, 3.5, 1]


def test_values_that_do_not_vary_have_no_correlation():
    assert spearman(X, np.ones_like(X)) == 0.0


def test_ndcg_is_trec_evals():
    """Graded relevance with linear gain; a relevant document behind the cut is missed."""
    first = best_grades(
        np.array([0.1, 0.5, 0.9, 0.7, 0.2, 0.1], np.float32), np.array([0, 2, 1, 0, 0, 0], np.float32), 10
    )
    assert ndcg(first, np.array([2, 1, 0], np.float32)) == pytest.approx(0.7601875334318685)
    grades = np.zeros(15, np.float32)
    grades[[4, 12]] = 1
    second = best_grades(np.linspace(1, 0, 15, dtype=np.float32), grades, 10)
    assert ndcg(second, np.array([1, 1], np.float32)) == pytest.approx(0.23719771276929622)


def test_among_equals_the_irrelevant_document_comes_first():
    """A model that gives everything the same cosine finds nothing."""
    assert best_grades(np.ones(4, np.float32), np.array([1, 0, 0, 2], np.float32), 3).tolist() == [0, 0, 1]


def test_ranks_count_what_scores_as_high_and_does_not_belong():
    """The best of several right answers counts; a tie counts against the model."""
    similarity = np.array([[0.9, 0.5, 0.1], [0.5, 0.5, 0.1], [0.1, 0.2, 0.3]], np.float32)
    relevant = np.array([[True, False, False], [True, False, False], [True, False, True]])
    assert ranks(similarity, relevant).tolist() == [1, 2, 1]


def test_the_calibration_error_weighs_each_bin_by_its_scores():
    """Three scores at 0.85 of which two are right, one at 0.25 that is wrong."""
    reliable = Reliability("every pair")
    reliable.add(np.array([[0.85, 0.85]], np.float32), np.array([[True, False]]))
    reliable.add(np.array([0.85, 0.25], np.float32), np.array([True, False]))
    found = reliable.result()
    assert found.error == pytest.approx(0.75 * (0.85 - 2 / 3) + 0.25 * 0.25, abs=1e-6)
    assert [(one.low, one.scores) for one in found.bins] == [(0.2, 1), (0.8, 3)]


def test_a_score_of_one_belongs_to_the_last_bin():
    reliable = Reliability("every pair")
    reliable.add(np.ones(2, np.float32), np.ones(2, np.bool_))
    assert [(one.low, one.high) for one in reliable.result().bins] == [(0.9, 1.0)]


@pytest.mark.parametrize("cells", [1, 7, 1 << 21])
def test_figures_do_not_depend_on_the_blocks(cells, monkeypatch):
    """A row at a time, some rows at a time, all at once: equal in every bit."""
    rng = np.random.default_rng(0)
    images, texts = unit(rng, 20), unit(rng, 9)
    data = pairs_of(Kind.CAPTIONS, rng.random((20, 9)) < 0.2)
    data = data.without(np.setdiff1d(np.arange(20), data.pairs[:, 0]))
    images = images[: len(data.left)]
    whole = scores.scored(data, images, texts, Sigmoid(scale=10.0, bias=-2.0))
    monkeypatch.setattr(scores, "_CELLS", cells)
    parts = scores.scored(data, images, texts, Sigmoid(scale=10.0, bias=-2.0))
    assert parts.figures == whole.figures
    assert parts.answers.best.tolist() == whole.answers.best.tolist()
    assert [one.bins for one in parts.calibrations] == [one.bins for one in whole.calibrations]


def test_recall_is_counted_both_ways():
    """Twelve pairs; the first text lies near every picture, so pictures find it instead of their own."""
    axes = np.eye(13, dtype=np.float32)
    images = l2_normalize(axes[:12] + axes[12])
    texts = np.concatenate([axes[12:], axes[1:12]])
    data = pairs_of(Kind.CAPTIONS, np.eye(12, dtype=np.bool_))
    figures = scores.scored(data, images, texts, Cosine()).figures
    assert figures["image→text R@1"].value == pytest.approx(1 / 12)
    assert figures["image→text R@5"].value == 1.0
    assert figures["text→image R@1"].value == pytest.approx(11 / 12)


@pytest.mark.parametrize(
    ("scoring", "calibrations"), [(Sigmoid(scale=9.0, bias=-1.0), 2), (Softmax(scale=100.0), 0), (Cosine(), 0)]
)
def test_only_calibrated_scores_have_a_calibration(scoring, calibrations):
    rng = np.random.default_rng(1)
    data = pairs_of(Kind.LABELS, np.eye(5, dtype=np.bool_))
    assert len(scores.scored(data, unit(rng, 5), unit(rng, 5), scoring).calibrations) == calibrations


def test_every_class_has_its_own_share():
    """Two pictures of the first class, one of them nearer to the second."""
    texts = np.eye(2, 6, dtype=np.float32)
    data = pairs_of(Kind.LABELS, np.array([[True, False], [True, False], [False, True]]))
    classes = scores.scored(data, texts[[0, 1, 1]], texts, Cosine()).classes
    assert {name: (one.pictures, one.right) for name, one in classes.items()} == {"right 0": (2, 1), "right 1": (1, 1)}


def test_a_query_does_not_find_itself():
    """BEIR's rule: the document with the query's own id is not searched."""
    documents = np.eye(3, 6, dtype=np.float32)
    data = pairs_of(Kind.RETRIEVAL, np.array([[False, True, False]]))
    queries = l2_normalize(documents[:1] + 0.5 * documents[1:2])
    itself = Dataset(
        kind=data.kind, left=data.left, right=data.right, pairs=data.pairs, grades=data.grades, own_document={0: 0}
    )
    assert scores.scored(data, queries, documents, Cosine()).figures["accuracy@1"].value == 0.0
    assert scores.scored(itself, queries, documents, Cosine()).figures["accuracy@1"].value == 1.0


def test_retrieval_counts_rank_and_grade():
    """The relevant documents are second and fourth of five."""
    documents = l2_normalize(np.array([[1, x] for x in (0.0, 0.1, 0.2, 0.3, 0.4)], np.float32))
    data = pairs_of(Kind.RETRIEVAL, np.array([[False, True, False, True, False]]), np.array([1, 2], np.float32))
    figures = scores.scored(data, documents[:1], documents, Cosine()).figures
    assert figures["MRR@10"].value == 0.5
    assert figures["recall@10"].value == 1.0
    assert figures["nDCG@10"].value == pytest.approx((1 / np.log2(3) + 2 / np.log2(5)) / (2 + 1 / np.log2(3)))
