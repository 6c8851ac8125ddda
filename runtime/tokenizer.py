"""A model directory's tokenizer: text -> token ids, EOS included, BOS and padding not."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import tokenizers


class Tokenizer(Protocol):
    """What the rest of the runtime needs of a tokenizer; safe to call from several threads at once."""

    def __call__(self, text: str) -> list[int]: ...


class HuggingFaceTokenizer:
    """`tokenizer.json` through the `tokenizers` library: the reference, right for every checkpoint."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()  # `preprocess.pad` keeps the EOS and tells the caller
        self._tokenizer.no_padding()

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids
