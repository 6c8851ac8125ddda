"""A model directory's tokenizer: text -> token ids with prefix and suffix, without padding."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import TextTower
from siglip_edge.runtime.text.packed.file_layout import PackedFile
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer


class Tokenizer(Protocol):
    """Text -> token ids. An implementation must be safe to call from several threads at once."""

    def __call__(self, text: str) -> list[int]: ...

    def rest(self) -> None:
        """Return memory to the system that the next text can restore at once."""


def load_tokenizer(directory: Path, spec: TextTower, checksums: ChecksumCache | None = None) -> Tokenizer:
    """The packed tokenizer when the manifest lists it, else the reference. Raises ArtifactCorrupt."""
    checksums = checksums or ChecksumCache(None)
    if spec.packed_tokenizer is None:
        return HuggingFaceTokenizer(checksums.verify(directory, spec.tokenizer))
    packed = PackedFile.load(checksums.verify(directory, spec.packed_tokenizer.file))
    return PackedTokenizer(packed, enough=spec.length)


class HuggingFaceTokenizer:
    """`tokenizer.json` read by the `tokenizers` library: the reference for every checkpoint.

    The library takes more memory than an INT8 tower, so it is imported only here (docs/decisions/packed-tokenizer.md).
    """

    def __init__(self, path: Path) -> None:
        import tokenizers  # noqa: PLC0415

        self.library = tokenizers.Tokenizer.from_file(str(path))
        self.library.no_truncation()  # `token_ids.padded` truncates before the suffix and reports it
        self.library.no_padding()

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self.library.encode(text).ids
        return ids

    def rest(self) -> None:
        """Do nothing: the library has no memory to return."""
