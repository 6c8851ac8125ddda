"""Embeddings of a data set -> the figures of one model and its answers, block by block in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from siglip_edge.cli.evaluation import intervals
from siglip_edge.cli.evaluation.datasets import Dataset, Ints, Kind
from siglip_edge.cli.evaluation.metrics import Reliability, best_grades, ndcg, pearson, ranks, spearman
from siglip_edge.cli.evaluation.results import Answers, Calibration, ClassResult, Estimate
from siglip_edge.runtime.artifacts.manifest import Scoring, Sigmoid
from siglip_edge.runtime.scoring import pairwise, similarity

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_CELLS = 1 << 21
"""Cosines per block: 8 MB."""

_CUT = 10
"""Cut of recall, nDCG and MRR in text retrieval."""

_NO_COSINES: Floats = np.empty(0, np.float32)


@dataclass(frozen=True, kw_only=True)
class Scored:
    figures: dict[str, Estimate]
    answers: Answers
    classes: dict[str, ClassResult] = field(default_factory=dict)
    calibrations: list[Calibration] = field(default_factory=list)


def scored(data: Dataset, left: Floats, right: Floats, scoring: Scoring) -> Scored:
    """`left`, `right`: unit rows of the two lists of `data`, (n, d) and (m, d)."""
    if data.kind is Kind.SENTENCES:
        return _sentences(data, left, right)
    if data.kind is Kind.RETRIEVAL:
        return _retrieval(data, left, right)
    return _pictures(data, left, right, scoring)


def _pictures(data: Dataset, images: Floats, texts: Floats, scoring: Scoring) -> Scored:
    reliable = [Reliability("best text per picture"), Reliability("every pair")]
    rank, best = np.empty((2, len(images)), np.int64)
    for start, cosines, relevant in _blocks(data.pairs, images, texts):
        here = slice(start, start + len(cosines))
        rank[here], best[here] = ranks(cosines, relevant), cosines.argmax(axis=1)
        if isinstance(scoring, Sigmoid):
            scores = pairwise(scoring, cosines)
            reliable[0].add(scores.max(axis=1), rank[here] == 1)
            reliable[1].add(scores, relevant)
    answers = Answers(best=best, right=rank == 1, cosines=_NO_COSINES)
    calibrations = [one.result() for one in reliable] if isinstance(scoring, Sigmoid) else []
    if data.kind is Kind.LABELS:
        figures = {f"top-{k}": _within(rank, k) for k in (1, 5)}
        return Scored(figures=figures, answers=answers, classes=_classes(data, rank == 1), calibrations=calibrations)
    by_text = _text_ranks(data, images, texts)
    ways = {"image→text": rank, "text→image": by_text}
    figures = {f"{way} R@{k}": _within(ranked, k) for way, ranked in ways.items() for k in (1, 5, 10)}
    return Scored(figures=figures, answers=answers, calibrations=calibrations)


def _text_ranks(data: Dataset, images: Floats, texts: Floats) -> Ints:
    """Ranks of the pictures per text; without texts whose pictures were all left out."""
    asked, row = np.unique(data.pairs[:, 1], return_inverse=True)
    turned = np.stack([row, data.pairs[:, 0]], axis=1)
    blocks = _blocks(turned, texts[asked], images)
    return np.concatenate([ranks(cosines, relevant) for _, cosines, relevant in blocks])


def _classes(data: Dataset, right: Bools) -> dict[str, ClassResult]:
    """Class -> its pictures, and how many of them have their label as the best text."""
    pictures = np.bincount(data.pairs[:, 1], minlength=len(data.right))
    named = np.bincount(data.pairs[:, 1], right[data.pairs[:, 0]], len(data.right))
    return {
        label: ClassResult(int(count), int(hits))
        for label, count, hits in zip(data.right, pictures, named, strict=True)
        if count
    }


def _sentences(data: Dataset, left: Floats, right: Floats) -> Scored:
    cosines = np.einsum("nd,nd->n", left, right)
    values = {"Spearman": spearman(cosines, data.grades), "Pearson": pearson(cosines, data.grades)}
    none = np.empty(0, np.int64)
    return Scored(
        figures={
            name: intervals.correlation(value, len(cosines), of_ranks=name == "Spearman")
            for name, value in values.items()
        },
        answers=Answers(best=none, right=none.astype(np.bool_), cosines=cosines),
    )


def _retrieval(data: Dataset, queries: Floats, documents: Floats) -> Scored:
    k = _CUT
    best, right = np.empty(len(queries), np.int64), np.zeros(len(queries), np.bool_)
    gains, recalls, reciprocal = [], [], []
    judged = _judged(data)
    for start, cosines, _ in _blocks(data.pairs, queries, documents):
        for query, row in enumerate(cosines, start):
            columns, grades = judged[query]
            if query in data.own_document:
                row[data.own_document[query]] = -np.inf
            of_all = np.zeros(len(row), np.float32)
            of_all[columns] = grades
            found = best_grades(row, of_all, k)
            hits = np.flatnonzero(found > 0)
            best[query], right[query] = row.argmax(), found[0] > 0
            gains.append(ndcg(found, grades))
            recalls.append(len(hits) / np.count_nonzero(grades > 0))
            reciprocal.append(1 / (1 + int(hits[0])) if len(hits) else 0.0)
    figures = {
        "accuracy@1": intervals.share(int(right.sum()), len(right)),
        f"recall@{k}": intervals.mean(recalls),
        f"MRR@{k}": intervals.mean(reciprocal),
        f"nDCG@{k}": intervals.mean(gains),
    }
    return Scored(figures=figures, answers=Answers(best=best, right=right, cosines=_NO_COSINES))


def _judged(data: Dataset) -> list[tuple[Ints, Floats]]:
    """Per query: the judged documents and their grades."""
    order = np.argsort(data.pairs[:, 0], kind="stable")
    ends = np.searchsorted(data.pairs[order, 0], np.arange(1, len(data.left)))
    columns, grades = np.split(data.pairs[order, 1], ends), np.split(data.grades[order], ends)
    return list(zip(columns, grades, strict=True))


def _blocks(pairs: Ints, left: Floats, right: Floats) -> Iterator[tuple[int, Floats, Bools]]:
    """-> first row, cosines (rows, m), and which of them are pairs."""
    step = max(1, _CELLS // len(right))
    for start in range(0, len(left), step):
        cosines = similarity(left[start : start + step], right)
        mine = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < start + step)]
        relevant = np.zeros(cosines.shape, np.bool_)
        relevant[mine[:, 0] - start, mine[:, 1]] = True
        yield start, cosines, relevant


def _within(rank: Ints, k: int) -> Estimate:
    return intervals.share(int(np.count_nonzero(rank <= k)), len(rank))
