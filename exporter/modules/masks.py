"""Which positions a position attends to, as terms that are added to the products of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

HIDDEN = -30_000.0
"""Added where a position is hidden: `exp` of it is exactly zero after the softmax, and FP16 still holds the sum."""


@dataclass(frozen=True)
class Sight:
    """The positions that a position attends to, padding aside."""

    causal: bool = False
    """Only itself and those before it."""
    reach: int | None = None
    """The greatest distance; None: any."""


EVERYWHERE = Sight()


def of_padding(attention_mask: Tensor) -> Tensor:
    """int64 (n, length), 1 for a token -> float32 (n, 1, 1, length): padding is hidden from every position."""
    return ((1 - attention_mask).float() * HIDDEN)[:, None, None, :]


def causal(length: int) -> Tensor:
    """float32 (length, length): what follows a position is hidden from it."""
    return torch.full((length, length), HIDDEN).triu(1)


def of_sight(length: int | Tensor, sight: Sight) -> Tensor:
    """float32 (length, length), a row per query; of a length that a trace keeps open."""
    places = torch.arange(length)
    ahead = places[None, :] - places[:, None]
    hidden = torch.zeros_like(ahead, dtype=torch.bool)
    if sight.causal:
        hidden = hidden | (ahead > 0)
    if sight.reach is not None:
        hidden = hidden | (ahead.abs() > sight.reach)
    return hidden.float() * HIDDEN
