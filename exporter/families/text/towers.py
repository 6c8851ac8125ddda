"""A text encoder -> one FP32 graph: token embeddings and their mask to the pooled row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from siglip_edge.exporter.families.text.checkpoint import TextCheckpoint
from siglip_edge.exporter.families.text.layout import Layout, Pooling
from siglip_edge.exporter.families.text.reference import DenseStep, SentenceModel
from siglip_edge.exporter.modules import post_norm, pre_norm
from siglip_edge.exporter.modules.pooling import last_token, mean_of_tokens
from siglip_edge.exporter.modules.tracing import trace_module
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS

POST_NORM = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "distilbert")
PRE_NORM = ("modernbert", "gemma3_text", "qwen3")

_AXES = {0: "batch", 1: "length"}


class TextTower(PreTrainedModel):  # type: ignore[misc]
    """token_embeddings float32 (n, length, width), attention_mask int64 (n, length) -> pooled float32 (n, d)."""

    def __init__(self, model: SentenceModel, layout: Layout, longest: int) -> None:
        super().__init__(model.transformer.config)
        self.pooling = layout.pooling
        self.encoder = _encoder(model.transformer, longest, first_only=self.pooling is Pooling.FIRST)
        self.after = nn.ModuleList(_before_the_last_dense(list(model.after)))

    def forward(self, token_embeddings: Tensor, attention_mask: Tensor) -> Tensor:
        pooled = self._pooled(self.encoder(token_embeddings, attention_mask), attention_mask)
        for step in self.after:
            pooled = step(pooled)
        return torch.as_tensor(pooled)

    def _pooled(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        if self.pooling is Pooling.FIRST:
            return hidden[:, 0]
        return (
            last_token(hidden, attention_mask)
            if self.pooling is Pooling.LAST
            else mean_of_tokens(hidden, attention_mask)
        )


def trace(checkpoint: TextCheckpoint, path: Path) -> None:
    """Write the tower; batch and length are dynamic."""
    trace_model(checkpoint.model, checkpoint.layout, checkpoint.tower.length, path)


def trace_model(model: SentenceModel, layout: Layout, longest: int, path: Path) -> None:
    """Write the tower of a model, for rows of up to `longest` tokens."""
    width = model.transformer.get_input_embeddings().embedding_dim
    embeddings, mask = torch.zeros(2, 6, width), torch.ones(2, 6, dtype=torch.int64)
    inputs = {TOKEN_EMBEDDINGS: (embeddings, _AXES), ATTENTION_MASK: (mask, _AXES)}
    trace_module(TextTower(model, layout, longest), inputs, path)


def _encoder(transformer: Any, longest: int, *, first_only: bool) -> nn.Module:
    if transformer.config.model_type in POST_NORM:
        return post_norm.PostNormEncoder(transformer, longest=longest, first_only=first_only)
    return pre_norm.PreNormEncoder(pre_norm.parts_of(transformer), longest=longest)


def _before_the_last_dense(steps: list[nn.Module]) -> list[nn.Module]:
    """Serving normalises by itself, so that a last step that does so is left out."""
    while steps and not isinstance(steps[-1], DenseStep):
        steps.pop()
    return steps
