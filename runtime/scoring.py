"""From pooled outputs to embeddings, and from embeddings to scores. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.manifest import Cosine, Scoring, Sigmoid, Softmax

Floats = NDArray[np.float32]


def l2_normalize(pooled: Floats) -> Floats:
    """Scale every row to unit length. (n, d) float32 -> (n, d) float32; a zero row stays zero.

    Row by row (a sum over the last axis), so a row's bits never depend on its neighbours.
    """
    norm = np.sqrt(np.sum(np.square(pooled), axis=-1, keepdims=True))
    unit: Floats = np.divide(pooled, np.maximum(norm, np.finfo(np.float32).tiny), dtype=np.float32)
    return unit


def similarity(left: Floats, right: Floats) -> Floats:
    """Cosine of every pair of unit rows. (n, d), (m, d) -> (n, m) float32 in [-1, 1].

    einsum rather than BLAS: a pair's bits do not depend on how many other pairs are asked for.
    """
    cosines: Floats = np.clip(np.einsum("nd,md->nm", left, right), -1.0, 1.0)
    return cosines


def pairwise(scoring: Scoring, cosine: Floats) -> Floats:
    """The score of every pair on its own, any shape, float32.

    With a sigmoid a calibrated probability, sigmoid(scale * cos + bias) (Zhai et al. 2023, "Sigmoid Loss for Language
    Image Pre-Training", eq. 1); otherwise the cosine: such a checkpoint knows no calibrated score of one pair.
    """
    if not isinstance(scoring, Sigmoid):
        return cosine
    logits = scoring.scale * cosine.astype(np.float64) + scoring.bias
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)  # tanh form: no overflow at either end


def among(scoring: Scoring, cosine: Floats) -> Floats:
    """Shares over the last axis, which sum to 1: softmax(scale * cos), float32. A sigmoid's bias cancels.

    Without a trained scale there is no softmax: the cosines themselves.
    """
    return cosine if isinstance(scoring, Cosine) else softmax(cosine, scoring.scale)


def score(scoring: Scoring, cosine: Floats) -> Floats:
    """As the checkpoint was trained: `among` the candidates of the last axis with a softmax, else `pairwise`."""
    return among(scoring, cosine) if isinstance(scoring, Softmax) else pairwise(scoring, cosine)


def softmax(cosine: Floats, scale: float) -> Floats:
    """softmax(scale * cos) over the last axis, float32."""
    logits = scale * cosine.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)
