"""A model directory's tokenizer: text -> token ids, prefix and suffix included, padding not."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import TextTower
from siglip_edge.runtime.text.packed_tokenizer import PackedTokenizer, PackedVocabulary


class Tokenizer(Protocol):
    """What the rest of the runtime needs of a tokenizer; safe to call from several threads at once."""

    def __call__(self, text: str) -> list[int]: ...

    def rest(self) -> None:
        """Give back to the system what the next text can have again at once."""


def load_tokenizer(directory: Path, spec: TextTower, checksums: ChecksumCache | None = None) -> Tokenizer:
    """The packed form where there is one, else the reference. Raises ArtifactCorrupt."""
    checksums = checksums or ChecksumCache(None)
    if spec.packed_tokenizer is None:
        return HuggingFaceTokenizer(checksums.verify(directory, spec.tokenizer))
    vocabulary = PackedVocabulary.load(checksums.verify(directory, spec.packed_tokenizer.file))
    return PackedTokenizer(vocabulary, enough=spec.length)


class HuggingFaceTokenizer:
    """`tokenizer.json` through the `tokenizers` library: the reference, right for every checkpoint.

    A vocabulary of 256 000 pieces costs it 180 MB and 0.7 s, so the library is imported only where it is needed.
    """

    def __init__(self, path: Path) -> None:
        import tokenizers  # noqa: PLC0415

        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._tokenizer.no_truncation()  # `token_ids.padded` keeps the suffix and tells the caller
        self._tokenizer.no_padding()

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def rest(self) -> None:
        """All that it holds is its own."""
