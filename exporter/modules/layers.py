"""Linear layers, and the pre-norm transformer layer of SigLIP and CLIP.

Constant parts are folded here, where the algebra is visible, rather than by pattern matching in the graph: queries,
keys and values come from one product, and the scale is in the query weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

Position = Callable[[Tensor], Tensor]
"""Hidden rows (n, length, width) -> one position of each, (n, 1, width)."""


def first(hidden: Tensor) -> Tensor:
    return hidden[:, :1]


def last(hidden: Tensor) -> Tensor:
    return hidden[:, -1:]


class Attention(nn.Module):  # type: ignore[misc]
    """Self-attention of one layer, (n, length, width) -> the same, or (n, 1, width): one position's alone.

    `source`: attention of transformers with `q_proj`, `k_proj`, `v_proj`, `out_proj` and a `scale` (SigLIP, CLIP).
    """

    def __init__(self, source: Any, *, one_position: bool) -> None:
        super().__init__()
        self.heads, self.head_width = source.num_heads, source.head_dim
        parts = [(source.q_proj, source.scale), (source.k_proj, 1.0), (source.v_proj, 1.0)]
        query, keys_values = parts[:1], parts[1:]
        self.qkv = stacked(keys_values if one_position else parts)
        self.query = stacked(query) if one_position else None
        self.out = source.out_proj

    def forward(self, hidden: Tensor, mask: Tensor | None = None, position: Position = last) -> Tensor:
        """`mask`: added to the products of queries and keys; broadcasts to (n, heads, queries, keys)."""
        products = self.qkv(hidden).split(self.heads * self.head_width, dim=-1)
        if self.query is not None:
            products = (self.query(position(hidden)), *products)
        query, keys, values = (self._by_head(product) for product in products)
        scores = query @ keys.transpose(-1, -2)
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        mixed = (weights @ values).transpose(1, 2)
        return torch.as_tensor(self.out(mixed.reshape(-1, mixed.shape[1], self.heads * self.head_width)))

    def _by_head(self, product: Tensor) -> Tensor:
        """(n, length, width) -> (n, heads, length, head_width)."""
        return product.view(-1, product.shape[1], self.heads, self.head_width).transpose(1, 2)


class Layer(nn.Module):  # type: ignore[misc]
    """One pre-norm transformer layer. `one_position`: it computes no more than the position that the tower pools."""

    def __init__(self, source: Any, *, one_position: bool = False) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = source.layer_norm1, source.layer_norm2
        self.attention = Attention(source.self_attn, one_position=one_position)
        self.mlp = Mlp(source.mlp)
        self.one_position = one_position

    def forward(self, hidden: Tensor, mask: Tensor | None = None, position: Position = last) -> Tensor:
        residual = position(hidden) if self.one_position else hidden
        hidden = residual + self.attention(self.attention_norm(hidden), mask, position)
        return torch.as_tensor(hidden + self.mlp(self.mlp_norm(hidden)))


class Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, source: Any) -> None:
        super().__init__()
        self.up, self.down, self.activation = source.fc1, source.fc2, ACT2FN[source.config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.as_tensor(self.down(self.activation(self.up(hidden))))


def stacked(parts: list[tuple[Any, float]]) -> nn.Linear:
    """One linear layer that computes several, each scaled: weights one below the other."""
    weight = torch.cat([part.weight.detach() * scale for part, scale in parts])
    bias = torch.cat([part.bias.detach() * scale for part, scale in parts])
    return linear(weight, bias)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """weight (out, in), bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return layer
