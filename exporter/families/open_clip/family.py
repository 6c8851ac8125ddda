"""The exporter's five questions, answered for OpenCLIP's own format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.families.clip.checkpoint import ClipCheckpoint
from siglip_edge.exporter.families.clip.family import Clip
from siglip_edge.exporter.families.clip.texts import (
    buckets,
    check_vocabulary,
    end_pooled_tower,
    highest_id,
    tokenizer_json,
)
from siglip_edge.exporter.families.config_files import OPEN_CLIP, read_json
from siglip_edge.exporter.families.family import TO_BE_WRITTEN
from siglip_edge.exporter.families.open_clip.configuration import Configuration, read, vision_tower
from siglip_edge.exporter.families.open_clip.tokenizer import open_tokenizer, respelt, without_padding
from siglip_edge.runtime.artifacts.manifest import TextTower, Towers
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS, TOKEN_IDS

Floats = NDArray[np.float32]


class OpenClip(Clip):
    """The reference is transformers' implementation with the same weights, which gives what OpenCLIP gives."""

    name = model_type = "open_clip"
    model_class: ClassVar[str] = ""
    refusals: ClassVar[Mapping[str, str]] = {
        "M-CLIP": "its image tower is another repository's; laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k and "
        "MetaCLIP 2 are multilingual checkpoints with both towers"
    }

    def open(self, source: str) -> ClipCheckpoint:
        from siglip_edge.exporter.families.open_clip.weights import build_model, read_weights

        configuration = read(source, read_json(source, OPEN_CLIP) or {})
        images, tokenizer = vision_tower(configuration), open_tokenizer(configuration)
        model = build_model(configuration, read_weights(source))
        texts = _mean_pooled if configuration.has_encoder else _end_pooled
        serialized = tokenizer_json(tokenizer)
        if configuration.has_encoder:
            serialized = without_padding(serialized, tokenizer.pad_token)
        elif not configuration.text.get("hf_tokenizer_name"):
            serialized = respelt(serialized)
        return ClipCheckpoint(
            source=source,
            model=model,
            towers=Towers(vision=images, text=texts(configuration, tokenizer, model.config.text_config.vocab_size)),
            tokenizer_json=serialized,
        )

    def text_tower(self, model: Any) -> Any:
        from siglip_edge.exporter.families.clip.towers import ClipText, MeanText

        return MeanText(model.text_model, model.text_projection) if _has_encoder(model) else ClipText(model)

    def text_features(self, model: Any, batch: Arrays) -> Any:
        import torch

        if not _has_encoder(model):
            return super().text_features(model, batch)
        ids, mask = (torch.from_numpy(batch[name]) for name in (TOKEN_IDS, ATTENTION_MASK))
        hidden = model.text_model(input_ids=ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
        return model.text_projection(hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True))

    def token_table(self, model: Any) -> Floats:
        if not _has_encoder(model):
            return super().token_table(model)
        return np.asarray(model.text_model.embeddings.word_embeddings.weight.numpy())


def _has_encoder(model: Any) -> bool:
    return bool(model.config.text_config.model_type == "xlm-roberta")


def _end_pooled(configuration: Configuration, tokenizer: Any, rows: int) -> TextTower:
    source, pooled = configuration.source, configuration.pooled_id
    pooled = highest_id(source, tokenizer) if pooled is None else pooled
    return end_pooled_tower(source, tokenizer, configuration.length, rows, pooled)


def _mean_pooled(configuration: Configuration, tokenizer: Any, rows: int) -> TextTower:
    check_vocabulary(configuration.source, tokenizer, rows)
    begin, end = tokenizer("")["input_ids"]
    return TextTower(
        length=configuration.length,
        padding=buckets(configuration.length),
        pad_id=tokenizer.pad_token_id,
        prefix_ids=(begin,),
        suffix_ids=(end,),
        tokenizer=TO_BE_WRITTEN,
        inputs=(TOKEN_EMBEDDINGS, ATTENTION_MASK),
        artifacts={},
    )
