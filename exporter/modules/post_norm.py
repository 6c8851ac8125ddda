"""The encoder of BERT and its relatives: LayerNorm after each sum, learnt positions, padding on the right.

Constant parts are folded: positions and the first token type are one table, queries, keys and values one product, and
the scale is in the query weights. BERT (MiniLM, Chinese-CLIP's text tower), RoBERTa, XLM-R, MPNet and DistilBERT name
the same parts differently; `parts_of` finds them by their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.modules.attention import Attention
from siglip_edge.exporter.modules.layers import stacked
from siglip_edge.exporter.modules.masks import EVERYWHERE, of_padding


@dataclass(frozen=True, kw_only=True)
class LayerParts:
    """Modules of one layer."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    out: nn.Linear
    attention_norm: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear
    mlp_norm: nn.LayerNorm
    activation: Any


@dataclass(frozen=True, kw_only=True)
class EncoderParts:
    """Modules of one encoder."""

    heads: int
    positions: Tensor
    """(longest, width): what is added to the token at each position, counted from the first token."""
    norm: nn.LayerNorm
    layers: Sequence[LayerParts]
    relative: Tensor | None = None
    """(2 * longest - 1, heads): added to the product of a query and a key, by the key's position less the query's, from
    1 - longest. MPNet's."""


class PostNormEncoder(nn.Module):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width), attention_mask int64 (n, length) -> hidden rows like the former.

    `first_only`: the last layer computes the first position alone, -> (n, 1, width), for towers that pool it.
    """

    def __init__(self, source: Any, *, longest: int | None = None, first_only: bool = False) -> None:
        """`source`: a transformers model (BertModel, XLMRobertaModel, ...). `longest`: most tokens of a row; None: as
        many as the model has positions.
        """
        super().__init__()
        parts = parts_of(source)
        self.longest = longest or len(parts.positions)
        self.positions = nn.Parameter(parts.positions[: self.longest].clone(), requires_grad=False)
        self.norm = parts.norm
        self.relative = None if parts.relative is None else RelativePositions(parts.relative)
        *first, last = parts.layers
        layers = [*(PostNormLayer(layer, parts.heads) for layer in first)]
        self.layers = nn.ModuleList([*layers, PostNormLayer(last, parts.heads, first_only=first_only)])

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        length = token_embeddings.shape[1]
        hidden = self.norm(token_embeddings + self.positions[:length])
        bias = None if self.relative is None else self.relative(length)
        attention = Attention(of_padding(attention_mask), EVERYWHERE, longest=self.longest, bias=bias)
        for layer in self.layers:
            hidden = layer(hidden, attention)
        return torch.as_tensor(hidden)


class RelativePositions(nn.Module):  # type: ignore[misc]
    """length -> (1, heads, length, length), by the distance of each key from each query."""

    def __init__(self, by_distance: Tensor) -> None:
        super().__init__()
        self.longest = (len(by_distance) + 1) // 2
        self.by_distance = nn.Parameter(by_distance.T.contiguous(), requires_grad=False)

    def forward(self, length: int) -> Tensor:
        places = torch.arange(length)
        distances = places[None, :] - places[:, None] + self.longest - 1
        return self.by_distance[:, distances][None]


class PostNormLayer(nn.Module):  # type: ignore[misc]
    """One layer, (n, length, width) -> the same, or (n, 1, width): the first position's alone."""

    def __init__(self, parts: LayerParts, heads: int, *, first_only: bool = False) -> None:
        super().__init__()
        width = parts.query.out_features
        self.heads, self.head_width, self.first_only = heads, width // heads, first_only
        query, keys_values = [(parts.query, self.head_width**-0.5)], [(parts.key, 1.0), (parts.value, 1.0)]
        self.qkv = stacked(keys_values if first_only else query + keys_values)
        self.query = stacked(query) if first_only else None
        self.out, self.attention_norm = parts.out, parts.attention_norm
        self.up, self.down, self.mlp_norm = parts.up, parts.down, parts.mlp_norm
        self.activation = parts.activation

    def forward(self, hidden: Tensor, attention: Attention) -> Tensor:
        residual = hidden[:, :1] if self.first_only else hidden
        hidden = self.attention_norm(residual + self.out(self._mixed(hidden, attention)))
        return torch.as_tensor(self.mlp_norm(hidden + self.down(self.activation(self.up(hidden)))))

    def _mixed(self, hidden: Tensor, attention: Attention) -> Tensor:
        products = self.qkv(hidden).split(self.heads * self.head_width, dim=-1)
        if self.query is not None:
            query, keys, values = map(self._by_head, (self.query(hidden[:, :1]), *products))
            mixed = attention.of_first(query, keys, values)
        else:
            mixed = attention(*map(self._by_head, products))
        together = mixed.transpose(1, 2)
        return together.reshape(-1, together.shape[1], self.heads * self.head_width)

    def _by_head(self, product: Tensor) -> Tensor:
        """(n, length, width) -> (n, heads, length, head_width)."""
        return product.view(-1, product.shape[1], self.heads, self.head_width).transpose(1, 2)


def parts_of(source: Any) -> EncoderParts:
    """The parts of a transformers model, by the names that its kind gives them."""
    if hasattr(source, "transformer"):
        return _of_distilbert(source)
    if source.config.model_type == "mpnet":
        return _of_mpnet(source)
    return _of_bert(source)


def _of_bert(source: Any) -> EncoderParts:
    """BERT and what kept its names; RoBERTa's and XLM-R's positions begin after the padding's id."""
    if (kind := getattr(source.config, "position_embedding_type", "absolute")) != "absolute":
        raise ExportError(f"position_embedding_type {kind!r} is not exported; absolute positions are")
    embeddings = source.embeddings
    begin = embeddings.padding_idx + 1 if hasattr(embeddings, "padding_idx") else 0
    return EncoderParts(
        heads=source.config.num_attention_heads,
        positions=_positions(embeddings, begin) + embeddings.token_type_embeddings.weight.detach()[0],
        norm=embeddings.LayerNorm,
        layers=[_bert_layer(layer, layer.attention.self) for layer in source.encoder.layer],
    )


def _bert_layer(layer: Any, attention: Any) -> LayerParts:
    return LayerParts(
        query=attention.query,
        key=attention.key,
        value=attention.value,
        out=layer.attention.output.dense,
        attention_norm=layer.attention.output.LayerNorm,
        up=layer.intermediate.dense,
        down=layer.output.dense,
        mlp_norm=layer.output.LayerNorm,
        activation=layer.intermediate.intermediate_act_fn,
    )


def _of_mpnet(source: Any) -> EncoderParts:
    embeddings, encoder = source.embeddings, source.encoder
    positions = _positions(embeddings, embeddings.padding_idx + 1)
    distances = torch.arange(1 - len(positions), len(positions))
    buckets = encoder.relative_position_bucket(distances, num_buckets=encoder.relative_attention_bias.num_embeddings)
    return EncoderParts(
        heads=source.config.num_attention_heads,
        positions=positions,
        norm=embeddings.LayerNorm,
        layers=[_mpnet_layer(layer) for layer in encoder.layer],
        relative=encoder.relative_attention_bias.weight.detach()[buckets],
    )


def _mpnet_layer(layer: Any) -> LayerParts:
    attention = layer.attention.attn
    return LayerParts(
        query=attention.q,
        key=attention.k,
        value=attention.v,
        out=attention.o,
        attention_norm=layer.attention.LayerNorm,
        up=layer.intermediate.dense,
        down=layer.output.dense,
        mlp_norm=layer.output.LayerNorm,
        activation=layer.intermediate.intermediate_act_fn,
    )


def _of_distilbert(source: Any) -> EncoderParts:
    embeddings = source.embeddings
    return EncoderParts(
        heads=source.config.n_heads,
        positions=_positions(embeddings, 0),
        norm=embeddings.LayerNorm,
        layers=[_distilbert_layer(layer) for layer in source.transformer.layer],
    )


def _distilbert_layer(layer: Any) -> LayerParts:
    return LayerParts(
        query=layer.attention.q_lin,
        key=layer.attention.k_lin,
        value=layer.attention.v_lin,
        out=layer.attention.out_lin,
        attention_norm=layer.sa_layer_norm,
        up=layer.ffn.lin1,
        down=layer.ffn.lin2,
        mlp_norm=layer.output_layer_norm,
        activation=layer.ffn.activation,
    )


def _positions(embeddings: Any, begin: int) -> Tensor:
    return torch.as_tensor(embeddings.position_embeddings.weight.detach()[begin:])
