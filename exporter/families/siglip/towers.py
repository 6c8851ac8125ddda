"""Checkpoint -> two FP32 graphs with stable names, traced by Optimum.

The traced modules compute what `transformers` computes, to rounding, with less work:

- normalisation into the patch embedding: pixels enter as bytes, patches are cut before they are widened;
- the pooling head's query is a learned constant: its keys and values need no products of their own;
- the text tower pools its last position, so its last layer computes only that one.

onnxruntime adds the rest at load: tanh-GELU with the bias before it is one FastGelu (9 % of the time of an INT8 vision
forward; `bench.operators` counts the kernels). Attention as one operator changes a base-size tower's time by less than
3 % in vision and for the worse in text; its SkipLayerNormalization costs 4 to 24 %: `bench.fusions` makes them and
times them. They stay apart, in operators that every provider knows.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from siglip_edge.exporter.families.siglip.checkpoint import SiglipCheckpoint
from siglip_edge.exporter.modules.layers import Layer
from siglip_edge.exporter.modules.patches import GREY, cut, patch_embedding
from siglip_edge.exporter.modules.pooling import PoolingHead
from siglip_edge.exporter.modules.tracing import BATCH, trace_module
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.images.pixels import PIXEL_VALUES
from siglip_edge.runtime.text.token_ids import TOKEN_EMBEDDINGS


class VisionTower(PreTrainedModel):  # type: ignore[misc]
    """pixel_values uint8 (n, 3, S, S) -> pooled float32 (n, d)."""

    def __init__(self, checkpoint: SiglipCheckpoint) -> None:
        source = checkpoint.model.vision_model
        super().__init__(source.config)
        convolution = source.embeddings.patch_embedding
        self.patch, self.grid = checkpoint.patch_size, checkpoint.image_size // checkpoint.patch_size
        self.embed, self.pixel_scale = patch_embedding(convolution, checkpoint.mean, checkpoint.std)
        self.positions = nn.Parameter(source.embeddings.position_embedding.weight.detach(), requires_grad=False)
        self.layers = nn.ModuleList(Layer(layer) for layer in source.encoder.layers)
        self.norm, self.head = source.post_layernorm, PoolingHead(source.head)

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = cut(pixel_values, self.patch, self.grid)
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
        self.layers = nn.ModuleList([*(Layer(layer) for layer in first), Layer(last, one_position=True)])
        self.norm, self.head = source.final_layer_norm, source.head

    def forward(self, token_embeddings: Tensor) -> Tensor:
        hidden = token_embeddings + self.positions
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.as_tensor(self.head(self.norm(hidden)).flatten(1))


def trace(checkpoint: SiglipCheckpoint, tower: Tower, path: Path) -> None:
    """Write one tower as an FP32 graph: batch axis dynamic, all else fixed."""
    if tower is Tower.VISION:
        pixels = torch.zeros(2, 3, checkpoint.image_size, checkpoint.image_size, dtype=torch.uint8)
        trace_module(VisionTower(checkpoint), {PIXEL_VALUES: (pixels, BATCH)}, path)
        return
    embeddings = torch.zeros(2, checkpoint.length, int(checkpoint.model.config.text_config.hidden_size))
    trace_module(TextTower(checkpoint), {TOKEN_EMBEDDINGS: (embeddings, BATCH)}, path)
