"""From pooled outputs to embeddings, and from embeddings to SigLIP's probabilities. Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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


def probability(cosine: Floats, logit_scale: float, logit_bias: float) -> Floats:
    """SigLIP's calibrated score: sigmoid(logit_scale * cos + logit_bias), any shape, float32.

    `logit_scale` is stored after `exp` (Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", eq. 1).
    """
    logits = logit_scale * cosine.astype(np.float64) + logit_bias
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)  # tanh form: no overflow at either end


def softmax(cosine: Floats, logit_scale: float) -> Floats:
    """Exclusive reading over the last axis: softmax(logit_scale * cos). The bias cancels."""
    logits = logit_scale * cosine.astype(np.float64)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)
