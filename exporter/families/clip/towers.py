"""CLIP's towers as two FP32 graphs.

The traced modules compute what `transformers` computes, to rounding, with less work:

- normalisation into the patch embedding: pixels enter as bytes, patches are cut before they are widened;
- the class token enters every image alike, so that what comes before the first layer is a constant for it;
- each tower pools one position, so its last layer computes only that one;
- a row of texts ends at its bucket: the causal mask hides what follows the pooled position.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from siglip_edge.exporter.modules.layers import Layer, first
from siglip_edge.exporter.modules.masks import causal, of_padding
from siglip_edge.exporter.modules.patches import GREY, cut, patch_embedding
from siglip_edge.exporter.modules.pooling import last_token, mean_of_tokens
from siglip_edge.exporter.modules.post_norm import PostNormEncoder
from siglip_edge.exporter.modules.tracing import BATCH, Axes, trace_module
from siglip_edge.runtime.artifacts.manifest import VisionTower
from siglip_edge.runtime.images.pixels import PIXEL_VALUES
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS

TEXT_AXES: Axes = {0: "batch", 1: "length"}


class ClipVision(PreTrainedModel):  # type: ignore[misc]
    """pixel_values uint8 (n, 3, S, S) -> pooled float32 (n, d)."""

    def __init__(self, model: Any, spec: VisionTower) -> None:
        """`model`: a CLIPModel of transformers, or one whose vision tower has the same modules."""
        source = model.vision_model
        super().__init__(source.config)
        embeddings, (class_position, *_) = source.embeddings, source.embeddings.position_embedding.weight.detach()
        self.patch, self.grid = spec.geometry.patch_size, source.config.image_size // spec.geometry.patch_size
        self.embed, self.pixel_scale = patch_embedding(embeddings.patch_embedding, spec.mean, spec.std)
        positions = embeddings.position_embedding.weight.detach()[1:].clone()
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.norm = source.pre_layrnorm
        class_token = self.norm(embeddings.class_embedding.detach() + class_position).view(1, 1, -1)
        self.class_token = nn.Parameter(class_token, requires_grad=False)
        *layers, last = source.encoder.layers
        self.layers = nn.ModuleList([*(Layer(layer) for layer in layers), Layer(last, one_position=True)])
        self.last_norm, self.project = source.post_layernorm, model.visual_projection

    def forward(self, pixel_values: Tensor) -> Tensor:
        patches = cut(pixel_values, self.patch, self.grid)
        embedded = self.norm(self.embed((patches.float() - GREY) * self.pixel_scale) + self.positions)
        class_tokens = self.class_token.expand(embedded.shape[0], -1, -1)
        hidden = torch.cat([class_tokens, embedded], dim=1)
        for layer in self.layers:
            hidden = layer(hidden, position=first)
        return torch.as_tensor(self.project(self.last_norm(hidden))).flatten(1)


class ClipText(PreTrainedModel):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width), attention_mask int64 (n, length) -> pooled float32 (n, d)."""

    def __init__(self, model: Any) -> None:
        source = model.text_model
        super().__init__(source.config)
        self.positions = nn.Parameter(source.embeddings.position_embedding.weight.detach(), requires_grad=False)
        self.mask = nn.Parameter(causal(len(self.positions)), requires_grad=False)
        *layers, last = source.encoder.layers
        self.layers = nn.ModuleList(Layer(layer) for layer in layers)
        self.last = Layer(last, one_position=True)
        self.norm, self.project = source.final_layer_norm, model.text_projection

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        length = token_embeddings.shape[1]
        hidden = token_embeddings + self.positions[:length]
        mask = self.mask[:length, :length]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        pooled = self.last(hidden, of_padding(attention_mask), lambda rows: last_token(rows, attention_mask)[:, None])
        return torch.as_tensor(self.project(self.norm(pooled))).flatten(1)


class BertText(PreTrainedModel):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width), attention_mask int64 (n, length) -> pooled float32 (n, d)."""

    def __init__(self, source: Any, project: nn.Module) -> None:
        """`source`: a BertModel of transformers, or one with its names. Its first position is pooled and projected."""
        super().__init__(source.config)
        self.encoder, self.project = PostNormEncoder(source, first_only=True), project

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        return torch.as_tensor(self.project(self.encoder(token_embeddings, attention_mask))).flatten(1)


class MeanText(PreTrainedModel):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width), attention_mask int64 (n, length) -> pooled float32 (n, d)."""

    def __init__(self, source: Any, project: nn.Module) -> None:
        """`source`: an encoder with BERT's names. The mean of its tokens is projected."""
        super().__init__(source.config)
        self.encoder, self.project = PostNormEncoder(source), project

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.encoder(token_embeddings, attention_mask)
        return torch.as_tensor(self.project(mean_of_tokens(hidden, attention_mask)))


def trace_vision(model: Any, spec: VisionTower, path: Path) -> None:
    size = model.config.vision_config.image_size
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    trace_module(ClipVision(model, spec), {PIXEL_VALUES: (pixels, BATCH)}, path)


def trace_text(tower: PreTrainedModel, length: int, width: int, path: Path) -> None:
    embeddings, mask = torch.zeros(2, length, width), torch.ones(2, length, dtype=torch.int64)
    trace_module(tower, {TOKEN_EMBEDDINGS: (embeddings, TEXT_AXES), ATTENTION_MASK: (mask, TEXT_AXES)}, path)
