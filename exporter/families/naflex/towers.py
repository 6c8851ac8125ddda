"""The vision tower of NaFlex as an FP32 graph: patches and their grid in, without padding and without a mask."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from siglip_edge.exporter.families.siglip.checkpoint import SiglipCheckpoint
from siglip_edge.exporter.modules.layers import Layer
from siglip_edge.exporter.modules.patches import GREY, linear_patch_embedding
from siglip_edge.exporter.modules.pooling import PoolingHead
from siglip_edge.exporter.modules.tracing import BATCH, trace_module
from siglip_edge.runtime.images.pixels import GRID, PATCHES


class VisionTower(PreTrainedModel):  # type: ignore[misc]
    """patches uint8 (n, N, p * p * 3), grid int64 (n, 2) -> pooled float32 (n, d). N = rows * columns of each grid."""

    def __init__(self, checkpoint: SiglipCheckpoint) -> None:
        source = checkpoint.model.vision_model
        super().__init__(source.config)
        patch_embedding = source.embeddings.patch_embedding
        self.embed, self.pixel_scale = linear_patch_embedding(patch_embedding, checkpoint.mean, checkpoint.std)
        self.positions = Positions(source.embeddings.position_embedding.weight.detach())
        self.layers = nn.ModuleList(Layer(layer) for layer in source.encoder.layers)
        self.norm, self.head = source.post_layernorm, PoolingHead(source.head)

    def forward(self, patches: Tensor, grid: Tensor) -> Tensor:
        hidden = self.embed((patches.float() - GREY) * self.pixel_scale) + self.positions(patches, grid)
        for layer in self.layers:
            hidden = layer(hidden)
        return torch.as_tensor(self.head(self.norm(hidden)))


class Positions(nn.Module):  # type: ignore[misc]
    """Position embeddings of a square table, resampled to the grid of each row.

    As torch's `interpolate(mode="bilinear", antialias=True, align_corners=False)`, which transformers calls: along each
    axis a cell is a mean of the table's cells, weighted by a triangle around its own centre that is as wide as the cell
    or, when the grid is finer than the table, as a cell of the table. The two axes multiply. Of a single column, torch
    2.13 on the CPU computes something else (`reference`).
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.side = round(len(table) ** 0.5)
        # With an axis of its own, because a plain matrix would be quantized like a linear layer.
        self.table = nn.Parameter(table.unsqueeze(0), requires_grad=False)
        self.centres = nn.Parameter(2 * torch.arange(self.side) + 1, requires_grad=False)

    def forward(self, patches: Tensor, grid: Tensor) -> Tensor:
        """-> (n, N, d)."""
        rows, columns = grid[:, :1], grid[:, 1:]
        index = torch.arange(patches.shape[1])
        row = torch.div(index, columns, rounding_mode="trunc")
        of_rows, of_columns = self._weights(row, rows), self._weights(index - row * columns, columns)
        both = of_rows.unsqueeze(-1) * of_columns.unsqueeze(-2)
        return torch.as_tensor(both.flatten(2) @ self.table)

    def _weights(self, place: Tensor, cells: Tensor) -> Tensor:
        """Places (n, N) on an axis of `cells` (n, 1) -> their weights of the table's cells, (n, N, side).

        In whole numbers up to the last step, so that FP16 rounds no coordinate. In units of 1 / (2 · cells) of a cell
        of the table, its centres lie at (2j + 1)·cells, a place's at (2i + 1)·side, and the triangle reaches
        2·max(cells, side) far: at most 2048, which FP16 holds exactly.
        """
        distance = (self.centres * cells.unsqueeze(-1) - ((2 * place + 1) * self.side).unsqueeze(-1)).abs()
        reach = 2 * torch.clamp(cells, min=self.side).unsqueeze(-1)
        weights = torch.clamp(reach - distance, min=0).float()
        return weights / weights.sum(dim=-1, keepdim=True)


def trace(checkpoint: SiglipCheckpoint, path: Path) -> None:
    """Write the vision tower as an FP32 graph: batch and patches dynamic."""
    patches = torch.zeros(2, 6, 3 * checkpoint.patch_size**2, dtype=torch.uint8)
    grid = torch.tensor([[2, 3], [3, 2]])
    trace_module(VisionTower(checkpoint), {PATCHES: (patches, {**BATCH, 1: "patches"}), GRID: (grid, BATCH)}, path)
