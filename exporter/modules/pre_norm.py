"""Encoders with rotary positions and the norm before each sum: ModernBERT, Gemma 3 (text) and Qwen 3.

Their layers differ in which positions they see (all, those before, those near), in their norms, and in whether several
heads of queries share one of keys. The attention's scale is folded into the queries' norm or weights, and the gate and
the input of an MLP come from one product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from siglip_edge.exporter.modules.attention import Attention
from siglip_edge.exporter.modules.layers import linear
from siglip_edge.exporter.modules.masks import Sight, of_padding
from siglip_edge.exporter.modules.rotary import Rotary


@dataclass(frozen=True, kw_only=True)
class Heads:
    """Shape of a layer's attention."""

    queries: int
    keys: int
    """Also of values; `queries` is a multiple of it."""
    width: int


@dataclass(frozen=True, kw_only=True)
class LayerParts:
    """Modules of one layer. A norm that is None is left out."""

    heads: Heads
    qkv: nn.Linear
    """Queries, keys and values one below the other; the queries' rows scaled, unless `qk_norm` is."""
    qk_norm: Tensor | None
    """(queries + keys, 1, width): weights of the RMS norm of each head of queries and keys, the scale included."""
    qk_epsilon: float
    out: nn.Linear
    attention_norm: nn.Module | None
    attention_out_norm: nn.Module | None
    gated: nn.Linear
    """What the activation takes, and what its result is multiplied by, one below the other."""
    activation: Any
    down: nn.Linear
    mlp_norm: nn.Module
    mlp_out_norm: nn.Module | None
    sight: Sight
    rotary: str
    """Name of its rotary positions."""


@dataclass(frozen=True, kw_only=True)
class EncoderParts:
    """Modules of one encoder."""

    embedding_scale: float
    embedding_norm: nn.Module | None
    layers: Sequence[LayerParts]
    norm: nn.Module
    rotaries: dict[str, Any]
    """Name -> rotary embedding of transformers."""


class PreNormEncoder(nn.Module):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width), attention_mask int64 (n, length) -> hidden rows like the former."""

    def __init__(self, parts: EncoderParts, *, longest: int) -> None:
        """`longest`: most tokens of a row."""
        super().__init__()
        self.longest, self.embedding_scale, self.embedding_norm = longest, parts.embedding_scale, parts.embedding_norm
        self.rotaries = nn.ModuleDict({name: Rotary(source, longest) for name, source in parts.rotaries.items()})
        self.layers = nn.ModuleList(PreNormLayer(layer) for layer in parts.layers)
        self.norm = parts.norm

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = token_embeddings * self.embedding_scale if self.embedding_scale != 1 else token_embeddings
        hidden = hidden if self.embedding_norm is None else self.embedding_norm(hidden)
        padding = of_padding(attention_mask)
        sights = {layer.sight for layer in self.layers}
        attention = {sight: Attention(padding, sight, longest=self.longest) for sight in sights}
        for layer in self.layers:
            hidden = layer(hidden, attention[layer.sight], self.rotaries[layer.rotary])
        return torch.as_tensor(self.norm(hidden))


class PreNormLayer(nn.Module):  # type: ignore[misc]
    """One layer, (n, length, width) -> the same."""

    def __init__(self, parts: LayerParts) -> None:
        super().__init__()
        self.heads, self.sight, self.rotary = parts.heads, parts.sight, parts.rotary
        self.qkv, self.out = parts.qkv, parts.out
        self.qk_norm = None if parts.qk_norm is None else RmsNorm(parts.qk_norm, parts.qk_epsilon)
        self.gated, self.activation, self.down = parts.gated, parts.activation, parts.down
        identity = nn.Identity()
        self.attention_norm, self.attention_out_norm = (
            parts.attention_norm or identity,
            parts.attention_out_norm or identity,
        )
        self.mlp_norm, self.mlp_out_norm = parts.mlp_norm, parts.mlp_out_norm or identity

    def forward(self, hidden: Tensor, attention: Attention, rotary: Rotary) -> Tensor:
        mixed = self._mixed(self.attention_norm(hidden), attention, rotary)
        hidden = hidden + self.attention_out_norm(self.out(mixed))
        active, gate = self.gated(self.mlp_norm(hidden)).chunk(2, dim=-1)
        return torch.as_tensor(hidden + self.mlp_out_norm(self.down(self.activation(active) * gate)))

    def _mixed(self, hidden: Tensor, attention: Attention, rotary: Rotary) -> Tensor:
        heads = self.heads
        product = self.qkv(hidden)
        by_head = product.view(-1, product.shape[1], heads.queries + 2 * heads.keys, heads.width).transpose(1, 2)
        turning, values = by_head.split([heads.queries + heads.keys, heads.keys], dim=1)
        turned = rotary(turning if self.qk_norm is None else self.qk_norm(turning))
        queries, keys = turned.split([heads.queries, heads.keys], dim=1)
        mixed = attention(queries, self._shared(keys), self._shared(values)).transpose(1, 2)
        return mixed.reshape(-1, mixed.shape[1], heads.queries * heads.width)

    def _shared(self, values: Tensor) -> Tensor:
        """(n, heads of keys, length, width) -> (n, heads of queries, length, width)."""
        return values.repeat_interleave(self.heads.queries // self.heads.keys, dim=1)


class RmsNorm(nn.Module):  # type: ignore[misc]
    """Rows of root mean square one, times a weight."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(weight, requires_grad=False), epsilon

    def forward(self, values: Tensor) -> Tensor:
        return values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


def parts_of(source: Any) -> EncoderParts:
    """The parts of a transformers model: ModernBertModel, Gemma3TextModel or Qwen3Model."""
    return {"modernbert": _of_modernbert, "gemma3_text": _of_gemma, "qwen3": _of_qwen}[source.config.model_type](source)


def _of_modernbert(source: Any) -> EncoderParts:
    config = source.config
    kinds = {"near" if layer.attn.local_attention[0] >= 0 else "all": layer.attn.rotary_emb for layer in source.layers}
    return EncoderParts(
        embedding_scale=1.0,
        embedding_norm=source.embeddings.norm,
        layers=[_modernbert_layer(layer, config) for layer in source.layers],
        norm=source.final_norm,
        rotaries=kinds,
    )


def _modernbert_layer(layer: Any, config: Any) -> LayerParts:
    attention, width = layer.attn, layer.attn.all_head_size
    scale = torch.ones(3 * width)
    scale[:width] = attention.head_dim**-0.5
    reach = attention.local_attention[0]
    return LayerParts(
        heads=Heads(queries=attention.num_heads, keys=attention.num_heads, width=attention.head_dim),
        qkv=_scaled(attention.Wqkv, scale),
        qk_norm=None,
        qk_epsilon=0.0,
        out=attention.Wo,
        attention_norm=layer.attn_norm,
        attention_out_norm=None,
        gated=layer.mlp.Wi,
        activation=ACT2FN[config.hidden_activation],
        down=layer.mlp.Wo,
        mlp_norm=layer.mlp_norm,
        mlp_out_norm=None,
        sight=Sight(reach=reach if reach >= 0 else None),
        rotary="near" if reach >= 0 else "all",
    )


def _of_gemma(source: Any) -> EncoderParts:
    config = source.config
    return EncoderParts(
        embedding_scale=source.embed_tokens.embed_scale.item(),
        embedding_norm=None,
        layers=[_gemma_layer(layer, config) for layer in source.layers],
        norm=_gemma_norm(source.norm),
        rotaries={"all": source.rotary_emb, "near": source.rotary_emb_local},
    )


def _gemma_layer(layer: Any, config: Any) -> LayerParts:
    attention = layer.self_attn
    window = attention.sliding_window
    return _causal_layer(
        layer,
        norms=tuple(1 + norm.weight.detach() for norm in (attention.q_norm, attention.k_norm)),
        epsilon=attention.q_norm.eps,
        activation=ACT2FN[config.hidden_activation],
        attention_norm=_gemma_norm(layer.input_layernorm),
        attention_out_norm=_gemma_norm(layer.post_attention_layernorm),
        mlp_norm=_gemma_norm(layer.pre_feedforward_layernorm),
        mlp_out_norm=_gemma_norm(layer.post_feedforward_layernorm),
        sight=Sight(causal=attention.is_causal, reach=None if window is None else window - 1),
        rotary="near" if attention.is_sliding else "all",
    )


def _of_qwen(source: Any) -> EncoderParts:
    return EncoderParts(
        embedding_scale=1.0,
        embedding_norm=None,
        layers=[_qwen_layer(layer, source.config) for layer in source.layers],
        norm=_qwen_norm(source.norm),
        rotaries={"all": source.rotary_emb},
    )


def _qwen_layer(layer: Any, config: Any) -> LayerParts:
    attention = layer.self_attn
    window = attention.sliding_window
    return _causal_layer(
        layer,
        norms=tuple(norm.weight.detach() for norm in (attention.q_norm, attention.k_norm)),
        epsilon=attention.q_norm.variance_epsilon,
        activation=ACT2FN[config.hidden_act],
        attention_norm=_qwen_norm(layer.input_layernorm),
        attention_out_norm=None,
        mlp_norm=_qwen_norm(layer.post_attention_layernorm),
        mlp_out_norm=None,
        sight=Sight(causal=True, reach=None if window is None else window - 1),
        rotary="all",
    )


def _causal_layer(layer: Any, *, norms: Sequence[Tensor], epsilon: float, **others: Any) -> LayerParts:
    """What layers of language models share. `norms`: weights of the queries' and the keys' norm."""
    attention, mlp = layer.self_attn, layer.mlp
    keys = attention.k_proj.out_features // attention.head_dim
    heads = Heads(queries=keys * attention.num_key_value_groups, keys=keys, width=attention.head_dim)
    query_norm, key_norm = norms
    qk_norm = [query_norm * attention.scaling] * heads.queries + [key_norm] * heads.keys
    return LayerParts(
        heads=heads,
        qkv=_together(attention.q_proj, attention.k_proj, attention.v_proj),
        qk_norm=torch.stack(qk_norm)[:, None, :],
        qk_epsilon=epsilon,
        out=attention.o_proj,
        gated=_together(mlp.gate_proj, mlp.up_proj),
        down=mlp.down_proj,
        **others,
    )


def _gemma_norm(norm: Any) -> RmsNorm:
    return RmsNorm(1 + norm.weight.detach(), norm.eps)


def _qwen_norm(norm: Any) -> RmsNorm:
    return RmsNorm(norm.weight.detach(), norm.variance_epsilon)


def _scaled(layer: Any, scale: Tensor) -> nn.Linear:
    """A linear layer whose outputs are multiplied by `scale`, (outputs,)."""
    bias = None if layer.bias is None else layer.bias.detach() * scale
    return linear(layer.weight.detach() * scale[:, None], bias)


def _together(*layers: Any) -> nn.Linear:
    """One linear layer that computes several."""
    biases = [layer.bias for layer in layers]
    bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])
    return linear(torch.cat([layer.weight.detach() for layer in layers]), bias)
