"""From pooled outputs to embeddings, and from embeddings to scores. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.manifest import Cosine, Scoring, Sigmoid, Softmax

Floats = NDArray[np.float32]


def l2_normalize(pooled: Floats) -> Floats:
    """Scale every row to unit length. (n, d) float32 -> (n, d) float32; a zero row stays zero.

    The sum runs over the last axis only, so a row's bits never depend on other rows.
    """
    norm = np.sqrt(np.sum(np.square(pooled), axis=-1, keepdims=True))
    unit: Floats = np.divide(pooled, np.maximum(norm, np.finfo(np.float32).tiny), dtype=np.float32)
    return unit


def similarity(left: Floats, right: Floats) -> Floats:
    """Cosine of every pair of unit rows. (n, d), (m, d) -> (n, m) float32 in [-1, 1].

    einsum instead of BLAS, so that a pair's bits do not depend on the number of other pairs.
    """
    cosines: Floats = np.clip(np.einsum("nd,md->nm", left, right), -1.0, 1.0)
    return cosines


def pairwise(scoring: Scoring, cosine: Floats) -> Floats:
    """Cosines of any shape -> the score of each pair on its own, same shape, float32.

    A sigmoid checkpoint gives a calibrated probability, sigmoid(scale * cos + bias) (Zhai et al. 2023, "Sigmoid Loss
    for Language Image Pre-Training", eq. 1). Other checkpoints have no calibrated score of a single pair and give the
    cosine.
    """
    if not isinstance(scoring, Sigmoid):
        return cosine
    logits = scoring.scale * cosine.astype(np.float64) + scoring.bias
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)  # tanh form: no overflow at either end


def among(scoring: Scoring, cosine: Floats) -> Floats:
    """Cosines -> softmax(scale * cos) over the last axis, float32; the shares sum to 1. A sigmoid's bias cancels out.

    A checkpoint without a trained scale gives the cosines unchanged.
    """
    return cosine if isinstance(scoring, Cosine) else softmax(cosine, scoring.scale)


def score(scoring: Scoring, cosine: Floats) -> Floats:
    """The score that the checkpoint was trained for: `among` for a softmax checkpoint, else `pairwise`."""
    return among(scoring, cosine) if isinstance(scoring, Softmax) else pairwise(scoring, cosine)


def softmax(cosine: Floats, scale: float) -> Floats:
    """softmax(scale * cos) over the last axis, float32."""
    logits = scale * cosine.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def clip_score(cosine: float) -> float:
    """100 · max(cosine, 0), the CLIP score of Vision-Language Similarity Service.

    CLIPScore has 2.5 in place of 100 (Hessel et al. 2021, eq. 1). It is no probability; `pairwise` is.
    """
    return 100 * max(cosine, 0.0)
