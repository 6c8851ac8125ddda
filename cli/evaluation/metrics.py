"""Ranks, retrieval measures, correlations and calibration of one block of inputs. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siglip_edge.cli.evaluation.results import Bin, Calibration

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

BINS = 10
"""Bins of equal width from 0 to 1."""


def ranks(similarity: Floats, relevant: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Per row: the rank, from 1, of the best relevant column among the irrelevant columns. Ties count as worse."""
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(1 + (~relevant & (similarity >= best)).sum(axis=1))


def best_grades(similarity: Floats, grades: Floats, k: int) -> Floats:
    """The grades of one row's `k` most similar columns, best first. Among equals a smaller grade comes first."""
    return np.asarray(grades[np.lexsort((grades, -similarity))[:k]])


def ndcg(found: Floats, grades: Floats) -> float:
    """Normalised discounted cumulative gain of the grades found, as trec_eval and BEIR compute it: linear gain."""
    ideal = np.sort(np.maximum(grades, 0))[::-1][: len(found)]
    return float(_gain(np.maximum(found, 0)) / _gain(ideal))


def _gain(grades: Floats) -> float:
    return float(np.sum(grades / np.log2(np.arange(2, len(grades) + 2)), dtype=np.float64))


def pearson(left: Floats, right: Floats) -> float:
    """Pearson's correlation; 0 when one side does not vary."""
    x, y = (side.astype(np.float64) - side.mean(dtype=np.float64) for side in (left, right))
    scale = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    return float(np.sum(x * y)) / scale if scale else 0.0


def spearman(left: Floats, right: Floats) -> float:
    """Spearman's correlation: Pearson's of the ranks; equal values share the mean of their ranks."""
    return pearson(mean_ranks(left), mean_ranks(right))


def mean_ranks(values: Floats) -> Floats:
    """(n,) -> ranks from 1."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[group])


class Reliability:
    """Sums of scores per bin, for any number of scores in constant memory.

    Expected calibration error: |mean score - share that was right| per bin, weighted by the bin's scores (Naeini et
    al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", eq. 3; Guo et al. 2017).
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self._count, self._score, self._right = np.zeros((3, BINS))

    def add(self, scores: Floats, right: NDArray[np.bool_]) -> None:
        """Arrays of one shape; scores from 0 to 1."""
        places = np.minimum((scores.ravel() * BINS).astype(np.int64), BINS - 1)
        self._count += np.bincount(places, minlength=BINS)
        self._score += np.bincount(places, scores.ravel().astype(np.float64), BINS)
        self._right += np.bincount(places, right.ravel().astype(np.float64), BINS)

    def result(self) -> Calibration:
        bins = [
            Bin(place / BINS, (place + 1) / BINS, int(count), float(score / count), float(right / count))
            for place, (count, score, right) in enumerate(zip(self._count, self._score, self._right, strict=True))
            if count
        ]
        total = sum(one.scores for one in bins)
        error = sum(one.scores * abs(one.mean_score - one.right) for one in bins) / total
        return Calibration(of=self._of, error=error, bins=bins)
