"""Embeddings -> scores, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_edge.runtime.artifacts.manifest import Scoring
from siglip_edge.runtime.scoring import among, pairwise, score, similarity
from siglip_edge.server.embedding.embedder import Embedding


@dataclass(frozen=True)
class Score:
    """One candidate against the query."""

    index: int
    """Position among the candidates of the request."""
    score: float
    """By the model: SigLIP's calibrated probability, CLIP's share among the candidates, a text model's cosine."""
    similarity: float
    """Cosine."""
    truncated: bool = False
    """Whether the candidate has a text that was cut to the model's length."""


def ranked(
    query: Embedding, candidates: Sequence[Embedding], scoring: Scoring, *, shares: bool | None = None
) -> list[Score]:
    """Score every candidate against one query. -> best first; equal candidates keep their order.

    `shares`: True: the scores are shares that sum to 1 over the candidates; False: each pair has an independent score;
    None: as the model was trained.
    """
    cosines = similarity(query.vector[None], np.stack([candidate.vector for candidate in candidates]))[0]
    rule = score if shares is None else (among if shares else pairwise)
    scores = rule(scoring, cosines)
    order = np.argsort(-cosines, kind="stable")
    return [
        Score(int(index), float(scores[index]), float(cosines[index]), candidates[index].truncated) for index in order
    ]


def score_pair(image: Embedding, text: Embedding, scoring: Scoring) -> Score:
    """Score one pair, independently of all others."""
    return ranked(image, [text], scoring, shares=False)[0]
