"""Rotary positions: pairs of coordinates of queries and keys, turned by an angle that grows with the position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from siglip_edge.exporter.errors import ExportError

_OF_EVERY_LENGTH = ("default", "linear", "yarn", "llama3")
"""Kinds whose angles do not depend on the length of the row."""


class Rotary(nn.Module):  # type: ignore[misc]
    """(n, heads, length, head_width) -> the same, turned.

    The first half of the coordinates is paired with the second, as transformers has it. Angles are a table, because
    FP16 has too few digits for positions in the thousands.
    """

    def __init__(self, source: Any, longest: int) -> None:
        """`source`: a rotary embedding of transformers, with `inv_freq` and `attention_scaling`."""
        super().__init__()
        if source.rope_type not in _OF_EVERY_LENGTH:
            raise ExportError(f"rotary positions of kind {source.rope_type!r} change with a row's length: not exported")
        angles = torch.arange(longest).float()[:, None] * source.inv_freq.float()[None, :]
        self.cosines = nn.Parameter(angles.cos() * source.attention_scaling, requires_grad=False)
        self.sines = nn.Parameter(angles.sin() * source.attention_scaling, requires_grad=False)

    def forward(self, values: Tensor) -> Tensor:
        length = values.shape[2]
        cosines, sines = self.cosines[:length], self.sines[:length]
        first, second = values.chunk(2, dim=-1)
        return torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1)
