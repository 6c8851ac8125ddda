"""Which positions a position attends to, as terms that are added to the products of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN = -30_000.0
"""Added where a position is hidden: `exp` of it is exactly zero after the softmax, and FP16 still holds the sum."""


def of_padding(attention_mask: Tensor) -> Tensor:
    """int64 (n, length), 1 for a token -> float32 (n, 1, 1, length): padding is hidden from every position."""
    return ((1 - attention_mask).float() * HIDDEN)[:, None, None, :]


def causal(length: int) -> Tensor:
    """float32 (length, length): what follows a position is hidden from it."""
    return torch.full((length, length), HIDDEN).triu(1)
