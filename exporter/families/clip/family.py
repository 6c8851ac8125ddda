"""The exporter's five questions, answered for CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.families.clip.checkpoint import ClipCheckpoint, load_model
from siglip_edge.exporter.families.clip.images import load_vision_tower
from siglip_edge.exporter.families.clip.texts import (
    HIGHEST,
    end_pooled_tower,
    highest_id,
    load_tokenizer,
    tokenizer_json,
)
from siglip_edge.exporter.families.family import Contract, Family
from siglip_edge.runtime.artifacts.manifest import Softmax, TextTower, Tower, Towers, VisionTower
from siglip_edge.runtime.images.pixels import PIXEL_VALUES
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import TOKEN_IDS

Floats = NDArray[np.float32]

TEMPLATE = "a photo of a {}."
"""The plainest of the templates of CLIP's own zero-shot evaluation."""


class Clip(Family[ClipCheckpoint]):
    name = "clip"
    model_type: ClassVar[str] = "clip"
    model_class: ClassVar[str] = "CLIPModel"

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == self.model_type

    def open(self, source: str) -> ClipCheckpoint:
        tokenizer, model = load_tokenizer(source), load_model(source, self.model_class)
        vision = model.config.vision_config
        images = load_vision_tower(source, vision.image_size, vision.patch_size)
        return ClipCheckpoint(
            source=source,
            model=model,
            towers=Towers(vision=images, text=self._text(source, tokenizer, model.config.text_config)),
            tokenizer_json=tokenizer_json(tokenizer),
        )

    def contract(self, checkpoint: ClipCheckpoint) -> Contract:
        return Contract(
            dimensions=checkpoint.model.config.projection_dim,
            towers=checkpoint.towers,
            tokenizer_json=checkpoint.tokenizer_json,
            scoring=Softmax(scale=checkpoint.model.logit_scale.exp().item()),
            zero_shot_template=TEMPLATE,
        )

    def trace(self, checkpoint: ClipCheckpoint, tower: Tower, path: Path) -> Floats | None:
        from siglip_edge.exporter.families.clip.towers import trace_text, trace_vision

        if tower is Tower.VISION:
            trace_vision(checkpoint.model, _vision(checkpoint), path)
            return None
        trace_text(checkpoint.model, path)
        return np.asarray(checkpoint.model.text_model.embeddings.token_embedding.weight.numpy())

    def reference(self, checkpoint: ClipCheckpoint, tower: Tower, batch: Arrays) -> Floats:
        """transformers' own towers."""
        import torch

        with torch.no_grad():
            if tower is Tower.TEXT:
                return np.asarray(checkpoint.model.get_text_features(input_ids=torch.from_numpy(batch[TOKEN_IDS])))
            pixels = torch.from_numpy(normalised(batch, _vision(checkpoint)))
            return np.asarray(checkpoint.model.get_image_features(pixel_values=pixels))

    def _text(self, source: str, tokenizer: Any, config: Any) -> TextTower:
        pooled = config.eos_token_id
        if pooled == HIGHEST and self.model_type == Clip.model_type:
            pooled = highest_id(source, tokenizer)
        return end_pooled_tower(source, tokenizer, config.max_position_embeddings, config.vocab_size, pooled)


def normalised(batch: Arrays, spec: VisionTower) -> Floats:
    """Rows of bytes -> what the image processor makes of them, (n, 3, size, size)."""
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (spec.mean, spec.std))
    return np.asarray((batch[PIXEL_VALUES].astype(np.float64) / 255 - mean) / std, np.float32)


def _vision(checkpoint: ClipCheckpoint) -> VisionTower:
    assert checkpoint.towers.vision is not None
    return checkpoint.towers.vision
