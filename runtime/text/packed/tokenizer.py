"""Text -> token ids from a packed file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from siglip_edge.runtime.text.packed.byte_pairs import BytePairModel
from siglip_edge.runtime.text.packed.file_layout import (
    BytePairs,
    Header,
    PackedFile,
    SpaceSplitting,
    Unigram,
)
from siglip_edge.runtime.text.packed.piece_models import UnigramModel, WordPieceModel
from siglip_edge.runtime.text.packed.splitting import LibrarySplitter, SpaceSplitter

_KNOWN_WORDS, _KNOWN_CHARS = 1024, 24
"""Number of words whose ids are remembered, and their greatest length in characters. Most words of a text occurred in
earlier texts. The memory is at most 0.7 MB, with words of random letters."""

Model = BytePairModel | UnigramModel | WordPieceModel


class PackedTokenizer:
    """Thread-safe: the tables are read-only, and `lru_cache` is thread-safe."""

    def __init__(self, packed: PackedFile, *, enough: int | None = None) -> None:
        """`enough`: number of ids after which the rest of a text is skipped, because the row would be truncated."""
        self._prefix, self._suffix = packed.header.prefix, packed.header.suffix
        self._enough = enough
        self._split = _splitter(packed.header)
        self._model = _model(packed)
        self._file = packed.file
        self._known = lru_cache(_KNOWN_WORDS)(self._model.ids)

    def __call__(self, text: str) -> list[int]:
        """Text -> ids, prefix and suffix included. Stops after the word or step whose ids exceed `enough`."""
        ids = list(self._prefix)
        for part in self._parts(text):
            ids += part
            if self._enough is not None and len(ids) > self._enough:
                break
        ids += self._suffix
        return ids

    def rest(self) -> None:
        """Unmap the pages of the file that texts have read; the next texts map the pages that they need."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)

    def _parts(self, text: str) -> Iterator[Sequence[int]]:
        """Ids per word or added token, in order."""
        for part in self._split(text):
            if isinstance(part, int):
                yield (part,)
            else:
                for word in self._model.words(part):
                    if len(word) <= _KNOWN_CHARS:
                        yield self._known(word)
                    else:
                        yield from self._model.steps(word)


def _splitter(header: Header) -> Callable[[str], Iterator[str | int]]:
    splitting = header.splitting
    return SpaceSplitter(splitting) if isinstance(splitting, SpaceSplitting) else LibrarySplitter(splitting)


def _model(packed: PackedFile) -> Model:
    spec = packed.header.model
    if isinstance(spec, BytePairs):
        return BytePairModel(spec, packed.tables)
    return UnigramModel(spec, packed.tables) if isinstance(spec, Unigram) else WordPieceModel(spec, packed.tables)
