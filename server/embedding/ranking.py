"""Embeddings -> scores, best first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from siglip_edge.runtime import scoring
from siglip_edge.runtime.artifacts.manifest import Manifest
from siglip_edge.server.embedding.embedder import Embedding


@dataclass(frozen=True)
class Score:
    """One pair. `probability` is calibrated (or the softmax's share), `similarity` the cosine."""

    index: int
    probability: float
    similarity: float


def ranked(
    query: Embedding, candidates: Sequence[Embedding], manifest: Manifest, *, exclusive: bool = False
) -> list[Score]:
    """Every candidate against one query, best first; equals keep their order. `exclusive`: softmax over them."""
    cosines = scoring.similarity(query.vector[None], np.stack([candidate.vector for candidate in candidates]))[0]
    if exclusive:
        scores = scoring.softmax(cosines, manifest.logit_scale)
    else:
        scores = scoring.probability(cosines, manifest.logit_scale, manifest.logit_bias)
    order = np.argsort(-cosines, kind="stable")
    return [Score(int(index), float(scores[index]), float(cosines[index])) for index in order]
