"""The exporter's five questions, answered for SigLIP and SigLIP2 of fixed resolution."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.families.family import TO_BE_WRITTEN, Contract, Family
from siglip_edge.exporter.families.siglip.checkpoint import SiglipCheckpoint, load_checkpoint
from siglip_edge.runtime.artifacts.manifest import (
    ColorProfiles,
    Geometry,
    Sigmoid,
    Squash,
    TextTower,
    Tower,
    Towers,
    VisionTower,
)
from siglip_edge.runtime.images.pixels import PIXEL_VALUES
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import TOKEN_IDS

Floats = NDArray[np.float32]

TEMPLATE = "This is a photo of {}."
"""Of SigLIP's own zero-shot evaluation."""


class Siglip(Family[SiglipCheckpoint]):
    name = "siglip"
    model_type: ClassVar[str] = "siglip"

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == self.model_type

    def open(self, source: str) -> SiglipCheckpoint:
        return load_checkpoint(source)

    def contract(self, checkpoint: SiglipCheckpoint) -> Contract:
        return Contract(
            dimensions=checkpoint.model.config.text_config.projection_size,
            towers=Towers(vision=self._vision(checkpoint), text=_text(checkpoint)),
            tokenizer_json=checkpoint.tokenizer_json,
            scoring=Sigmoid(scale=checkpoint.model.logit_scale.exp().item(), bias=checkpoint.model.logit_bias.item()),
            zero_shot_template=TEMPLATE,
        )

    def _vision(self, checkpoint: SiglipCheckpoint) -> VisionTower:
        geometry = Squash(size=checkpoint.image_size, patch_size=checkpoint.patch_size)
        return vision_tower(checkpoint, geometry, (PIXEL_VALUES,))

    def trace(self, checkpoint: SiglipCheckpoint, tower: Tower, path: Path) -> Floats | None:
        from siglip_edge.exporter.families.siglip.towers import trace

        trace(checkpoint, tower, path)
        if tower is Tower.VISION:
            return None
        return np.asarray(checkpoint.model.text_model.embeddings.token_embedding.weight.numpy())

    def reference(self, checkpoint: SiglipCheckpoint, tower: Tower, batch: Arrays) -> Floats:
        """transformers' own towers; its processor's normalisation is spelt out."""
        import torch

        with torch.no_grad():
            if tower is Tower.TEXT:
                ids = torch.from_numpy(batch[TOKEN_IDS])
                return np.asarray(checkpoint.model.get_text_features(input_ids=ids))
            mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (checkpoint.mean, checkpoint.std))
            pixels = (torch.from_numpy(batch[PIXEL_VALUES]).float() / 255 - mean) / std
            return np.asarray(checkpoint.model.get_image_features(pixel_values=pixels))


def vision_tower(checkpoint: SiglipCheckpoint, geometry: Geometry, inputs: tuple[str, ...]) -> VisionTower:
    """The contract of a vision tower of SigLIP."""
    return VisionTower(
        geometry=geometry,
        inputs=inputs,
        resample=checkpoint.resample,
        mean=checkpoint.mean,
        std=checkpoint.std,
        color_profiles=ColorProfiles.TO_SRGB,
        artifacts={},
    )


def _text(checkpoint: SiglipCheckpoint) -> TextTower:
    return TextTower(
        length=checkpoint.length,
        pad_id=checkpoint.pad_id,
        suffix_ids=(checkpoint.eos_id,),
        lowercase=True,
        strip_punctuation=checkpoint.strip_punctuation,
        tokenizer=TO_BE_WRITTEN,
        artifacts={},
    )
