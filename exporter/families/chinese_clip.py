"""Chinese-CLIP: CLIP's vision tower, and BERT with its first position pooled.

transformers 4.57 prepares its texts as BERT's tokenizer does and cuts none; the checkpoints were trained on 52 tokens,
and Chinese-CLIP's own code cuts there.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.clip.family import Clip
from siglip_edge.exporter.families.clip.texts import buckets, check_vocabulary
from siglip_edge.exporter.families.family import TO_BE_WRITTEN
from siglip_edge.runtime.artifacts.manifest import TextTower
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS, TOKEN_IDS

Floats = NDArray[np.float32]

TRAINED_LENGTH = 52


class ChineseClip(Clip):
    name = model_type = "chinese_clip"
    model_class = "ChineseCLIPModel"
    template: ClassVar[str] = "{}的照片"
    """The plainest of the templates of Chinese-CLIP's own zero-shot evaluation."""

    def text_contract(self, source: str, tokenizer: Any, config: Any) -> TextTower:
        around = tokenizer("")["input_ids"]
        if around != [tokenizer.cls_token_id, tokenizer.sep_token_id]:
            raise ExportError(f"{source}: its tokenizer puts the tokens {around} around a text, not [CLS] and [SEP]")
        check_vocabulary(source, tokenizer, config.vocab_size)
        length = min(TRAINED_LENGTH, config.max_position_embeddings)
        return TextTower(
            length=length,
            padding=buckets(length),
            pad_id=tokenizer.pad_token_id,
            prefix_ids=(tokenizer.cls_token_id,),
            suffix_ids=(tokenizer.sep_token_id,),
            tokenizer=TO_BE_WRITTEN,
            inputs=(TOKEN_EMBEDDINGS, ATTENTION_MASK),
            artifacts={},
        )

    def text_tower(self, model: Any) -> Any:
        from siglip_edge.exporter.families.clip.towers import BertText

        return BertText(model.text_model, model.text_projection)

    def text_features(self, model: Any, batch: Arrays) -> Any:
        """As the model's `forward` pools; `get_text_features` of transformers 4.57 fails without a pooler."""
        import torch

        ids, mask = (torch.from_numpy(batch[name]) for name in (TOKEN_IDS, ATTENTION_MASK))
        hidden = model.text_model(input_ids=ids, attention_mask=mask).last_hidden_state
        return model.text_projection(hidden[:, 0])

    def token_table(self, model: Any) -> Floats:
        return np.asarray(model.text_model.embeddings.word_embeddings.weight.numpy())


FAMILY = ChineseClip()
