"""From the hidden rows of a tower to one pooled row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from siglip_edge.exporter.modules.layers import Mlp


class PoolingHead(nn.Module):  # type: ignore[misc]
    """Attention pooling by a learned probe, (n, length, width) -> (n, width).

    The query q is constant, so with x the hidden rows: scores = (W_k x + b_k)·q = x·(W_k^T q) + const, and softmax
    drops the constant; sum_t p_t (W_v x_t + b_v) = W_v (sum_t p_t x_t) + b_v. Neither keys nor values are computed.
    """

    def __init__(self, source: Any) -> None:
        super().__init__()
        attention = source.attention
        self.heads, width = attention.num_heads, attention.embed_dim
        head_width = width // self.heads
        q_weight, k_weight, v_weight = attention.in_proj_weight.detach().double().chunk(3)
        q_bias, _, v_bias = attention.in_proj_bias.detach().double().chunk(3)
        query = (q_weight @ source.probe.detach().double().flatten() + q_bias).view(self.heads, head_width)
        scores = torch.einsum("hd,hdw->wh", query * head_width**-0.5, k_weight.view(self.heads, head_width, width))
        self.scores = nn.Parameter(scores.float(), requires_grad=False)  # (width, heads)
        values = v_weight.view(self.heads, head_width, width).transpose(1, 2)
        self.values = nn.Parameter(values.float().contiguous(), requires_grad=False)  # (heads, width, head_width)
        self.values_bias = nn.Parameter(v_bias.float(), requires_grad=False)
        self.out, self.norm, self.mlp = attention.out_proj, source.layernorm, Mlp(source.mlp)

    def forward(self, hidden: Tensor) -> Tensor:
        weights = torch.softmax((hidden @ self.scores).transpose(1, 2), dim=-1)  # (n, heads, length)
        mixed = (weights @ hidden).unsqueeze(2) @ self.values  # (n, heads, 1, head_width)
        pooled = self.out(mixed.flatten(1).unsqueeze(1) + self.values_bias)
        return torch.as_tensor(pooled + self.mlp(self.norm(pooled))).flatten(1)


def mean_of_tokens(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """(n, length, width), int64 (n, length) -> (n, width), without what stands at padding.

    A product and no sum over an axis: onnxruntime adds in another order when the batch has one row.
    """
    weights = attention_mask.to(hidden.dtype) / attention_mask.sum(dim=1, keepdim=True)
    return (weights[:, None, :] @ hidden).flatten(1)


def last_token(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """(n, length, width), int64 (n, length) with padding on the right -> (n, width): the last token's row."""
    rows = torch.arange(hidden.shape[0])
    return hidden[rows, attention_mask.sum(dim=1) - 1]
