"""A module of an encoder as a tower: traced, simplified, run by onnxruntime."""

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from siglip_edge.exporter.graphs import graph_files
from siglip_edge.exporter.modules.tracing import trace_module

LENGTH_IS_FREE = {0: "batch", 1: "length"}


class Tower(PreTrainedModel):
    """As families use an encoder, without pooling."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(PretrainedConfig(attn_implementation="eager"))
        self.encoder = encoder

    def forward(self, token_embeddings: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.encoder(token_embeddings, attention_mask)


class TracedEncoder:
    """The graph of an encoder, whose batch and length are free."""

    def __init__(self, encoder: nn.Module, width: int, folder: Path) -> None:
        path = folder / "traced.onnx"
        inputs = {"token_embeddings": torch.zeros(2, 6, width), "attention_mask": torch.ones(2, 6, dtype=torch.int64)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace_module(Tower(encoder), {name: (value, LENGTH_IS_FREE) for name, value in inputs.items()}, path)
        self.model = graph_files.simplify(path)
        graph_files.save(self.model, folder / "simple.onnx")
        self._session = onnxruntime.InferenceSession(folder / "simple.onnx")

    def __call__(self, embeddings: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
        feeds = {"token_embeddings": embeddings.numpy(), "attention_mask": mask.numpy()}
        (hidden,) = self._session.run(None, feeds)
        return hidden


def rows(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two rows of token ids from 5 to 49 and their mask: one of full length, one of half, padded with 1."""
    ids = torch.randint(5, 50, (2, length), generator=torch.Generator().manual_seed(length))
    mask = torch.ones_like(ids)
    mask[1, -(-length // 2) :] = 0
    return torch.where(mask == 1, ids, torch.tensor(1)), mask


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    """The model with weights so large that biases, norms and positions matter."""
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return model.eval().requires_grad_(False)
