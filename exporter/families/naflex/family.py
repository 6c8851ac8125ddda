"""The exporter's five questions, answered for SigLIP2 NaFlex. Texts and scores are SigLIP's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.errors import ExportError
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

_PROCESSOR = "Siglip2ImageProcessor"
TRAINED_PATCHES = 1024
"""NaFlex was trained with 128, 256, 576, 784 and 1024 patches (Tschannen et al. 2025, "SigLIP 2", section 2.4.2)."""


@dataclass(frozen=True, kw_only=True)
class NaflexCheckpoint(SiglipCheckpoint):
    """A transformers.Siglip2Model, and how its inputs are prepared."""

    default_patches: int
    """As its image processor has it."""

    @property
    def most_patches(self) -> int:
        return max(TRAINED_PATCHES, self.default_patches)


class Naflex(Siglip):
    name = "naflex"
    model_type = "siglip2"
    refusals: ClassVar[Mapping[str, str]] = {}

    def open(self, source: str) -> NaflexCheckpoint:
        image = load_image_processor(source)
        _check_steps(source, image)
        model = load_model(source, "Siglip2Model")
        _check_vision(source, model.config.vision_config, image)
        return NaflexCheckpoint(**fields_of(source, model, image), default_patches=image.max_num_patches)

    def _vision(self, checkpoint: SiglipCheckpoint) -> VisionTower:
        assert isinstance(checkpoint, NaflexCheckpoint)
        patches = Patches(
            patch_size=checkpoint.patch_size,
            default_patches=checkpoint.default_patches,
            most_patches=checkpoint.most_patches,
        )
        return vision_tower(checkpoint, patches, (PATCHES, GRID))

    def trace(self, checkpoint: SiglipCheckpoint, tower: Tower, path: Path) -> Floats | None:
        if tower is Tower.TEXT:
            return super().trace(checkpoint, tower, path)
        from siglip_edge.exporter.families.naflex.towers import trace

        trace(checkpoint, path)
        return None

    def reference(self, checkpoint: SiglipCheckpoint, tower: Tower, batch: Arrays) -> Floats:
        """transformers' own towers."""
        if tower is Tower.TEXT:
            return super().reference(checkpoint, tower, batch)
        from siglip_edge.exporter.families.naflex.reference import reference_images

        assert isinstance(checkpoint, NaflexCheckpoint)
        return reference_images(checkpoint, batch)


def _check_steps(source: str, processor: Any) -> None:
    """Raise ExportError for a processor that does something else than the runtime does."""
    if (kind := type(processor).__name__) != _PROCESSOR:
        raise ExportError(f"{source}: images are prepared by {kind}; NaFlex needs {_PROCESSOR}")
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not getattr(processor, step):
            raise ExportError(f"{source}: its image processor has {step}: false; NaFlex needs it")
    if abs(processor.rescale_factor * 255 - 1) > 1e-6:
        raise ExportError(f"{source}: its image processor rescales by {processor.rescale_factor}, not by 1/255")


def _check_vision(source: str, config: Any, processor: Any) -> None:
    """Raise ExportError for a vision tower that the traced graph would not follow."""
    if config.patch_size != processor.patch_size:
        raise ExportError(
            f"{source}: its image processor cuts patches of {processor.patch_size} pixels, its vision tower takes "
            f"{config.patch_size}"
        )
    if config.num_channels != 3 or isqrt(config.num_patches) ** 2 != config.num_patches:
        raise ExportError(
            f"{source}: {config.num_channels} channels and {config.num_patches} position embeddings; NaFlex has three "
            "channels and a square of positions"
        )
