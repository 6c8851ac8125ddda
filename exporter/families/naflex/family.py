"""The exporter's five questions, answered for SigLIP2 NaFlex. Texts and scores are SigLIP's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.families.siglip.checkpoint import (
    SiglipCheckpoint,
    fields_of,
    load_image_processor,
    load_model,
)
from siglip_edge.exporter.families.siglip.family import Siglip, vision_tower
from siglip_edge.runtime.artifacts.manifest import Patches, Tower, VisionTower
from siglip_edge.runtime.images.pixels import GRID, PATCHES
from siglip_edge.runtime.rows import Arrays

Floats = NDArray[np.float32]


TRAINED_PATCHES = 1024
"""NaFlex was trained with 128, 256, 576, 784 and 1024 patches (Tschannen et al. 2025, "SigLIP 2", section 2.4.2)."""


@dataclass(frozen=True, kw_only=True)
class NaflexCheckpoint(SiglipCheckpoint):
    """A transformers.Siglip2Model, and how its inputs are prepared."""

    default_patches: int
    """As its image processor has it."""


class Naflex(Siglip):
    name = "naflex"
    model_type = "siglip2"
    refusals: ClassVar[Mapping[str, str]] = {}

    def open(self, source: str) -> NaflexCheckpoint:
        image = load_image_processor(source)
        fields = fields_of(source, load_model(source, "Siglip2Model"), image)
        return NaflexCheckpoint(**fields, default_patches=image.max_num_patches)

    def _vision(self, checkpoint: SiglipCheckpoint) -> VisionTower:
        assert isinstance(checkpoint, NaflexCheckpoint)
        patches = Patches(
            patch_size=checkpoint.patch_size,
            default_patches=checkpoint.default_patches,
            most_patches=max(TRAINED_PATCHES, checkpoint.default_patches),
        )
        return vision_tower(checkpoint, patches, (PATCHES, GRID))

    def trace(self, checkpoint: SiglipCheckpoint, tower: Tower, path: Path) -> Floats | None:
        if tower is Tower.TEXT:
            return super().trace(checkpoint, tower, path)
        from siglip_edge.exporter.families.naflex.towers import trace

        trace(checkpoint, path)
        return None

    def reference(self, checkpoint: SiglipCheckpoint, tower: Tower, batch: Arrays) -> Floats:
        """transformers' own towers, with the padding to `default_patches` that its processor adds."""
        if tower is Tower.TEXT:
            return super().reference(checkpoint, tower, batch)
        import torch

        assert isinstance(checkpoint, NaflexCheckpoint)
        patches, grid = batch[PATCHES], batch[GRID]
        mean, std = (np.tile(values, checkpoint.patch_size**2) for values in (checkpoint.mean, checkpoint.std))
        pixels = ((patches.astype(np.float32) / 255 - mean) / std).astype(np.float32)
        count = patches.shape[1]
        padding = max(checkpoint.default_patches - count, 0)
        pixels = np.pad(pixels, ((0, 0), (0, padding), (0, 0)))
        mask = np.arange(count + padding) < count
        with torch.no_grad():
            pooled = checkpoint.model.get_image_features(
                pixel_values=torch.from_numpy(pixels),
                pixel_attention_mask=torch.from_numpy(np.tile(mask.astype(np.int64), (len(patches), 1))),
                spatial_shapes=torch.from_numpy(np.ascontiguousarray(grid)),
            )
        return np.asarray(pooled)
