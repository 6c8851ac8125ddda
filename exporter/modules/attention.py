"""Attention of one layer over its queries, keys and values: at once, or in blocks of queries for long rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from siglip_edge.exporter.graphs.blockwise_attention import DOMAIN, LONGEST_AT_ONCE, OPERATOR
from siglip_edge.exporter.modules.masks import EVERYWHERE, Sight, of_sight


class Attention:
    """softmax(queries · keys + mask) · values for the rows of one run; made once and shared by its layers.

    All of queries, keys and values are (n, heads, length, head_width); queries are scaled already.
    """

    def __init__(self, padding: Tensor, sight: Sight, *, longest: int, bias: Tensor | None = None) -> None:
        """`padding`: of `masks.of_padding`. `longest`: most positions that the tower takes. `bias`: added to each
        product, (1, heads, length, length); not in blocks.
        """
        self._padding, self._sight, self._in_blocks = padding, sight, longest > LONGEST_AT_ONCE
        assert bias is None or not self._in_blocks
        terms = [padding, *([] if bias is None else [bias])]
        if sight != EVERYWHERE and not self._in_blocks:
            terms.append(of_sight(padding.shape[-1], sight))
        self._mask = sum(terms[1:], terms[0])

    def __call__(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """-> (n, heads, length, head_width)."""
        if self._in_blocks:
            return torch.as_tensor(_Blockwise.apply(queries, keys, values, self._padding, self._sight))
        return attend(queries, keys, values, self._mask)

    def of_first(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The first position alone, which sees every other: (n, heads, 1, head_width)."""
        assert self._sight == EVERYWHERE
        return attend(query, keys, values, self._mask[:, :, :1])


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """`mask` broadcasts to (n, heads, queries, keys)."""
    return torch.softmax(queries @ keys.transpose(-1, -2) + mask, dim=-1) @ values


class _Blockwise(torch.autograd.Function):  # type: ignore[misc]
    """Traced as one operator of DOMAIN, which `graphs.blockwise_attention` writes in standard operators."""

    @staticmethod
    def forward(_: Any, queries: Tensor, keys: Tensor, values: Tensor, padding: Tensor, sight: Sight) -> Tensor:
        return attend(queries, keys, values, padding + of_sight(padding.shape[-1], sight))

    @staticmethod
    def symbolic(graph: Any, *inputs: Any) -> Any:
        """The inputs of `forward`, as values of the graph."""
        *values, sight = inputs
        reach = -1 if sight.reach is None else sight.reach
        output = graph.op(f"{DOMAIN}::{OPERATOR}", *values, causal_i=int(sight.causal), reach_i=reach)
        return output.setType(values[0].type())
