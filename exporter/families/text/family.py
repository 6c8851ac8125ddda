"""The exporter's five questions, answered for text encoders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from siglip_edge.exporter.families.family import Contract, Family
from siglip_edge.exporter.families.text.checkpoint import TextCheckpoint, load_checkpoint
from siglip_edge.exporter.families.text.lengths import matryoshka
from siglip_edge.runtime.artifacts.manifest import Cosine, Tower, Towers
from siglip_edge.runtime.rows import Arrays
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_IDS

Floats = NDArray[np.float32]

_OWN_CODE = "its code is on the hub beside its weights and is not run; BERT, RoBERTa, XLM-R, MPNet and others are known"


class TextEncoder(Family[TextCheckpoint]):
    name = "text"
    refusals: ClassVar[Mapping[str, str]] = {
        "nomic_bert": _OWN_CODE,
        "new": _OWN_CODE,
        "jina_bert": _OWN_CODE,
        "t5": "T5 is an encoder of another kind: no module for it here",
    }
    model_types: ClassVar[frozenset[str]] = frozenset(
        ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "distilbert", "modernbert", "gemma3_text", "qwen3")
    )

    def knows(self, config: Mapping[str, Any]) -> bool:
        return config.get("model_type") in self.model_types

    def open(self, source: str) -> TextCheckpoint:
        return load_checkpoint(source)

    def contract(self, checkpoint: TextCheckpoint) -> Contract:
        dimensions = checkpoint.model.dimensions
        return Contract(
            dimensions=dimensions,
            towers=Towers(text=checkpoint.tower),
            tokenizer_json=checkpoint.tokenizer_json,
            scoring=Cosine(),
            shortening=matryoshka(checkpoint.layout, dimensions),
        )

    def trace(self, checkpoint: TextCheckpoint, tower: Tower, path: Path) -> Floats | None:  # noqa: ARG002 - text only
        from siglip_edge.exporter.families.text.towers import trace

        trace(checkpoint, path)
        return np.asarray(checkpoint.model.transformer.get_input_embeddings().weight.numpy())

    def reference(self, checkpoint: TextCheckpoint, tower: Tower, batch: Arrays) -> Floats:  # noqa: ARG002
        import torch

        with torch.no_grad():
            return np.asarray(
                checkpoint.model(*(torch.from_numpy(batch[name]) for name in (TOKEN_IDS, ATTENTION_MASK)))
            )
