"""Checkpoint -> two FP32 graphs with stable names, traced by Optimum.

The traced modules compute what `transformers` computes, to rounding, with less work. Constant parts are folded here,
where the algebra is visible, rather than by pattern matching in the graph:

- normalisation into the patch embedding: pixels enter as bytes, patches are cut before they are widened;
- queries, keys and values come from one product, the scale is in the query weights;
- the pooling head's query is a learned constant: its keys and values need no products of their own;
- the text tower pools its last position, so its last layer computes only that one.

onnxruntime adds the rest at load: tanh-GELU with the bias before it is one FastGelu (9 % of the time of an INT8 vision
forward; `bench.operators` counts the kernels). Attention as one operator changes a base-size tower's time by less than
3 % in vision and for the worse in text; its SkipLayerNormalization costs 4 to 24 %: `bench.fusions` makes them and
times them. They stay apart, in operators that every provider knows.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from optimum.exporters.onnx import OnnxConfig, export
from optimum.utils import DummyInputGenerator
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from siglip_edge.exporter.families.family import OUTPUT
from siglip_edge.exporter.families.siglip.checkpoint import SiglipCheckpoint
from siglip_edge.runtime.artifacts.manifest import Tower

OPSET = 20
"""The first with Gelu(approximate="tanh") as one operator; the newest that torch's TorchScript exporter writes."""

INPUT = {Tower.VISION: "pixel_values", Tower.TEXT: "token_embeddings"}

GREY = 128.0
"""Bytes are centred before they are weighted. Uncentred, the mean brightness multiplies the rounding error of every
INT8 weight: on a random base tower the worst cosine is 0.984 with bytes from 0, 0.9993 with bytes around 128."""


class Attention(nn.Module):  # type: ignore[misc]
    """Self-attention of one layer, (n, length, width) -> the same, or (n, 1, width): the last position's alone."""

    def __init__(self, source: Any, *, last_only: bool) -> None:
        super().__init__()
        self.heads, self.head_width = source.num_heads, source.head_dim
        parts = [(source.q_proj, source.scale), (source.k_proj, 1.0), (source.v_proj, 1.0)]
        query, keys_values = parts[:1], parts[1:]
        self.qkv = _stacked(keys_values if last_only else parts)
        self.query = _stacked(query) if last_only else None
        self.out = source.out_proj

    def forward(self, hidden: Tensor) -> Tensor:
        products = self.qkv(hidden).split(self.heads * self.head_width, dim=-1)
        if self.query is not None:
            products = (self.query(hidden[:, -1:]), *products)
        query, keys, values = (self._by_head(product) for product in products)
        weights = torch.softmax(query @ keys.transpose(-1, -2), dim=-1)
        mixed = (weights @ values).transpose(1, 2)
        return torch.as_tensor(self.out(mixed.reshape(-1, mixed.shape[1], self.heads * self.head_width)))

    def _by_head(self, product: Tensor) -> Tensor:
        """(n, length, width) -> (n, heads, length, head_width)."""
        return product.view(-1, product.shape[1], self.heads, self.head_width).transpose(1, 2)


class Layer(nn.Module):  # type: ignore[misc]
    """One pre-norm transformer layer."""

    def __init__(self, source: Any, *, last_only: bool = False) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = source.layer_norm1, source.layer_norm2
        self.attention = Attention(source.self_attn, last_only=last_only)
        self.mlp = Mlp(source.mlp)
        self.last_only = last_only

    def forward(self, hidden: Tensor) -> Tensor:
        residual = hidden[:, -1:] if self.last_only else hidden
        hidden = residual + self.attention(self.attention_norm(hidden))
        return torch.as_tensor(hidden + self.mlp(self.mlp_norm(hidden)))


class Mlp(nn.Module):  # type: ignore[misc]
    def __init__(self, source: Any) -> None:
        super().__init__()
        self.up, self.down, self.activation = source.fc1, source.fc2, ACT2FN[source.config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.as_tensor(self.down(self.activation(self.up(hidden))))


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


class VisionTower(PreTrainedModel):  # type: ignore[misc]
    """pixel_values uint8 (n, 3, S, S) -> pooled float32 (n, d)."""

    def __init__(self, checkpoint: SiglipCheckpoint) -> None:
        source = checkpoint.model.vision_model
        super().__init__(source.config)
        convolution = source.embeddings.patch_embedding
        self.patch, self.grid = checkpoint.patch_size, checkpoint.image_size // checkpoint.patch_size
        self.embed, self.pixel_scale = _patch_embedding(convolution, checkpoint.mean, checkpoint.std)
        self.positions = nn.Parameter(source.embeddings.position_embedding.weight.detach(), requires_grad=False)
        self.layers = nn.ModuleList(Layer(layer) for layer in source.encoder.layers)
        self.norm, self.head = source.post_layernorm, PoolingHead(source.head)

    def forward(self, pixel_values: Tensor) -> Tensor:
        cut = pixel_values.view(-1, 3, self.grid, self.patch, self.grid, self.patch)
        patches = cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, self.grid**2, 3 * self.patch**2)
        hidden = self.embed((patches.float() - GREY) * self.pixel_scale) + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.as_tensor(self.head(self.norm(hidden)))


class TextTower(PreTrainedModel):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width) -> pooled float32 (n, d)."""

    def __init__(self, checkpoint: SiglipCheckpoint) -> None:
        source = checkpoint.model.text_model
        super().__init__(source.config)
        self.positions = nn.Parameter(source.embeddings.position_embedding.weight.detach(), requires_grad=False)
        *first, last = source.encoder.layers
        self.layers = nn.ModuleList([*(Layer(layer) for layer in first), Layer(last, last_only=True)])
        self.norm, self.head = source.final_layer_norm, source.head

    def forward(self, token_embeddings: Tensor) -> Tensor:
        hidden = token_embeddings + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.as_tensor(self.head(self.norm(hidden)).flatten(1))


def trace(checkpoint: SiglipCheckpoint, tower: Tower, path: Path) -> None:
    """Write one tower as an FP32 graph: batch axis dynamic, all else fixed. Over 2 GB Optimum adds `<path>_data`."""
    module = VisionTower(checkpoint) if tower is Tower.VISION else TextTower(checkpoint)
    shape = _row_shape(checkpoint, tower)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on constant branches, and its own deprecation
        export(module.eval(), _config(tower, shape, module.config), path, opset=OPSET, disable_dynamic_axes_fix=True)


def _row_shape(checkpoint: SiglipCheckpoint, tower: Tower) -> tuple[int, ...]:
    if tower is Tower.VISION:
        return (3, checkpoint.image_size, checkpoint.image_size)
    return (checkpoint.length, int(checkpoint.model.config.text_config.hidden_size))


def _config(tower: Tower, shape: tuple[int, ...], config: Any) -> OnnxConfig:
    """Optimum's description of a tower: one input, one output, and a row to trace with."""

    class Row(DummyInputGenerator):  # type: ignore[misc]
        SUPPORTED_INPUT_NAMES = (INPUT[tower],)

        def generate(
            self, input_name: str, framework: str = "pt", int_dtype: str = "", float_dtype: str = ""
        ) -> Tensor:
            del input_name, framework, int_dtype, float_dtype
            rows = torch.zeros(2, *shape)  # two: a batch of one would be traced as a constant
            return rows.to(torch.uint8) if tower is Tower.VISION else rows

    class TowerConfig(OnnxConfig):  # type: ignore[misc]
        NORMALIZED_CONFIG_CLASS = staticmethod(lambda _: None)
        inputs = {INPUT[tower]: {0: "batch"}}  # noqa: RUF012 - Optimum reads it as a property
        outputs = {OUTPUT: {0: "batch"}}  # noqa: RUF012

        def generate_dummy_inputs(self, framework: str = "pt", **_: Any) -> dict[str, Tensor]:
            return {INPUT[tower]: Row().generate(INPUT[tower], framework)}

    return TowerConfig(config)


def _stacked(parts: list[tuple[Any, float]]) -> nn.Linear:
    """One linear layer that computes several, each scaled: weights one below the other."""
    weight = torch.cat([part.weight.detach() * scale for part, scale in parts])
    bias = torch.cat([part.bias.detach() * scale for part, scale in parts])
    return _linear(weight, bias)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    return linear


def _patch_embedding(convolution: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[nn.Linear, float]:
    """Normalisation folded in. With x a byte, m = 255·mean, s = 1 / (255·std of the first channel), g = GREY:

        W·((x - m) / (255·std)) + b  =  (W·std_0/std)·((x - g)·s) + (b + sum W·(g - m) / (255·std))

    `s` stays outside (all channels share it in every released SigLIP): the weights keep a magnitude FP16 holds well.
    """
    weight, bias = convolution.weight.detach().double(), convolution.bias.detach().double()
    means, stds = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (mean, std))
    folded_bias = bias + (weight * (GREY - 255.0 * means) / (255.0 * stds)).sum(dim=(1, 2, 3))
    folded = weight * (std[0] / stds)
    return _linear(folded.flatten(1).float(), folded_bias.float()), 1.0 / (255.0 * std[0])
