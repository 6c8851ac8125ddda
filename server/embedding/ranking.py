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
    """One pair. `score` is the model's own (SigLIP's is a calibrated probability), `similarity` the cosine."""

    index: int
    score: float
    similarity: float


def ranked(
    query: Embedding, candidates: Sequence[Embedding], scoring: Scoring, *, shares: bool | None = None
) -> list[Score]:
    """Every candidate against one query, best first; equals keep their order.

    `shares`: scores are shares of the candidates, which sum to 1, instead of a score per pair; None: as the model was
    trained.
    """
    cosines = similarity(query.vector[None], np.stack([candidate.vector for candidate in candidates]))[0]
    rule = score if shares is None else (among if shares else pairwise)
    scores = rule(scoring, cosines)
    order = np.argsort(-cosines, kind="stable")
    return [Score(int(index), float(scores[index]), float(cosines[index])) for index in order]
