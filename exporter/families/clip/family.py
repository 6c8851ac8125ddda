"""The exporter's five questions, answered for CLIP and, through the methods below them, for its relatives."""

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


class Clip(Family[ClipCheckpoint]):
    name = "clip"
    model_type: ClassVar[str] = "clip"
    model_class: ClassVar[str] = "CLIPModel"
    """Its name in transformers."""
    template: ClassVar[str] = "a photo of a {}."
    """The plainest of the templates of CLIP's own zero-shot evaluation."""

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") == self.model_type

    def open(self, source: str) -> ClipCheckpoint:
        tokenizer, model = load_tokenizer(source), load_model(source, self.model_class)
        vision = model.config.vision_config
        images = load_vision_tower(source, vision.image_size, vision.patch_size)
        return ClipCheckpoint(
            source=source,
            model=model,
            towers=Towers(vision=images, text=self.text_contract(source, tokenizer, model.config.text_config)),
            tokenizer_json=tokenizer_json(tokenizer),
        )

    def contract(self, checkpoint: ClipCheckpoint) -> Contract:
        return Contract(
            dimensions=checkpoint.model.config.projection_dim,
            towers=checkpoint.towers,
            tokenizer_json=checkpoint.tokenizer_json,
            scoring=Softmax(scale=checkpoint.model.logit_scale.exp().item()),
            zero_shot_template=self.template,
        )

    def trace(self, checkpoint: ClipCheckpoint, tower: Tower, path: Path) -> Floats | None:
        from siglip_edge.exporter.families.clip.towers import trace_text, trace_vision

        if tower is Tower.VISION:
            trace_vision(checkpoint.model, checkpoint.vision, path)
            return None
        table = self.token_table(checkpoint.model)
        trace_text(self.text_tower(checkpoint.model), checkpoint.text.length, table.shape[1], path)
        return table

    def reference(self, checkpoint: ClipCheckpoint, tower: Tower, batch: Arrays) -> Floats:
        """transformers' own towers."""
        import torch

        with torch.no_grad():
            if tower is Tower.TEXT:
                return np.asarray(self.text_features(checkpoint.model, batch))
            pixels = torch.from_numpy(normalised(batch, checkpoint.vision))
            return np.asarray(checkpoint.model.get_image_features(pixel_values=pixels))

    def text_contract(self, source: str, tokenizer: Any, config: Any) -> TextTower:
        """`config`: text_config of the checkpoint's config.json."""
        pooled = config.eos_token_id
        if pooled == HIGHEST and self.model_type == Clip.model_type:
            pooled = highest_id(source, tokenizer)
        return end_pooled_tower(source, tokenizer, config.max_position_embeddings, config.vocab_size, pooled)

    def text_tower(self, model: Any) -> Any:
        """A torch module, `token_embeddings`, `attention_mask` -> pooled."""
        from siglip_edge.exporter.families.clip.towers import ClipText

        return ClipText(model)

    def text_features(self, model: Any, batch: Arrays) -> Any:
        """Pooled outputs of the original implementation, a tensor."""
        import torch

        return model.get_text_features(input_ids=torch.from_numpy(batch[TOKEN_IDS]))

    def token_table(self, model: Any) -> Floats:
        return np.asarray(model.text_model.embeddings.token_embedding.weight.numpy())


def normalised(batch: Arrays, spec: VisionTower) -> Floats:
    """Rows of bytes -> what the image processor makes of them, (n, 3, size, size)."""
    mean, std = (np.reshape(values, (3, 1, 1)) for values in (spec.mean, spec.std))
    return np.asarray((batch[PIXEL_VALUES].astype(np.float64) / 255 - mean) / std, np.float32)
