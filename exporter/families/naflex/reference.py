"""Image features of transformers' Siglip2Model for rows as serving makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siglip_edge.exporter.families.naflex.family import NaflexCheckpoint
from siglip_edge.runtime.images.pixels import GRID, PATCHES
from siglip_edge.runtime.rows import Arrays


def reference_images(checkpoint: NaflexCheckpoint, batch: Arrays) -> NDArray[np.float32]:
    """Pooled outputs, (n, d). The normalisation and the padding of transformers' processor are spelt out."""
    pixels, mask = _padded(checkpoint, np.asarray(batch[PATCHES], np.float64))
    with torch.no_grad(), _right_columns(checkpoint.model.vision_model.embeddings):
        return np.asarray(
            checkpoint.model.get_image_features(
                pixel_values=pixels, pixel_attention_mask=mask, spatial_shapes=torch.from_numpy(batch[GRID])
            )
        )


def _padded(checkpoint: NaflexCheckpoint, patches: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Normalised patches with zeros up to the processor's number, and the mask that hides the zeros."""
    count, length, width = patches.shape
    padded = checkpoint.default_patches if length <= checkpoint.default_patches else checkpoint.most_patches
    pixels, mask = np.zeros((count, padded, width), np.float32), np.zeros((count, padded), np.int32)
    values = patches.reshape(count, length, -1, 3) / 255
    pixels[:, :length] = ((values - checkpoint.mean) / checkpoint.std).reshape(count, length, width)
    mask[:, :length] = 1
    return torch.from_numpy(pixels), torch.from_numpy(mask)


@contextmanager
def _right_columns(embeddings: Any) -> Iterator[None]:
    """Position embeddings of grids of one column as on a GPU and as trained, while the block runs.

    On a CPU, torch 2.13's interpolate with antialias=True gives every place of an output one column wide the weights of
    its first place. Of an output one row high it is right, and a column is a row of the transposed table.
    """
    original = embeddings.resize_positional_embeddings

    def resized(table: Tensor, shapes: Tensor, max_length: int) -> Tensor:
        rows = [
            original(table.transpose(0, 1), shape.flip(1), max_length)
            if shape[0, 1] == 1
            else original(table, shape, max_length)
            for shape in shapes.split(1)
        ]
        return torch.cat(rows)

    embeddings.resize_positional_embeddings = resized
    try:
        yield
    finally:
        del embeddings.resize_positional_embeddings
