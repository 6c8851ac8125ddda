"""A CLIP checkpoint of transformers, opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.family import Checkpoint
from siglip_edge.runtime.artifacts.manifest import TextTower, Towers, VisionTower


@dataclass(frozen=True, kw_only=True)
class ClipCheckpoint(Checkpoint):
    """A CLIPModel of transformers, or a model with the same modules, and how its inputs are prepared."""

    towers: Towers
    """Without artifacts; the tokenizer is TO_BE_WRITTEN."""
    tokenizer_json: str

    @property
    def vision(self) -> VisionTower:
        assert self.towers.vision is not None
        return self.towers.vision

    @property
    def text(self) -> TextTower:
        assert self.towers.text is not None
        return self.towers.text


def load_model(source: str, model_class: str) -> Any:
    """`model_class`: its name in transformers. Raises ExportError when the weights cannot be loaded whole."""
    import torch
    import transformers

    try:
        model, loaded = getattr(transformers, model_class).from_pretrained(
            source, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    except Exception as error:  # damaged files make transformers and safetensors raise any type
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: the weights cannot be loaded ({reason})") from error
    if missing := sorted([*loaded["missing_keys"], *loaded["mismatched_keys"]]):
        raise ExportError(f"{source}: {len(missing)} of its weights are missing, for example {missing[0]}")
    return model.eval().requires_grad_(requires_grad=False)
