"""Byte-pair encoding from a memory-mapped file: the same ids as a Gemma-format `tokenizer.json`, in less memory.

File layout, little-endian; the length of every part is a multiple of eight bytes:

    uint64            bytes of the header
    JSON              the header, padded with spaces
    uint64[merges]    pairs, ascending: left id << 32 | right id
    uint64[merges]    result of each pair: rank << 32 | merged id
    uint32[alphabet]  id per code point; UNKNOWN when the vocabulary holds only its UTF-8 bytes

`exporter.tokenizers.packing` writes the file and compares its ids with those of the `tokenizers` library.
"""

from __future__ import annotations

import heapq
import mmap
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.errors import ArtifactCorrupt

UNKNOWN = 0xFFFF_FFFF
_KNOWN_WORDS, _KNOWN_CHARS = 1024, 24
"""Number of words whose ids are remembered, and their greatest length in characters. Most words of a text occurred in
earlier texts. The memory is at most 0.7 MB, with words of random letters."""
_GONE = -1
"""Marks a symbol that has been merged into its left neighbour."""
_LOW = 0xFFFF_FFFF
"""Mask of the merged id in a result."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The small parts. `added` tokens are cut out of the text first, longer tokens before shorter tokens."""

    merges: int
    alphabet: int
    added: dict[str, int]
    space: str
    """The character that replaces a space; U+2581 in Gemma's tokenizer."""
    splits_words: bool
    """True when no merge joins a letter with a `space` after it, so that each word can be encoded separately."""
    byte_ids: tuple[int, ...]
    suffix: tuple[int, ...]
    """Ids that end every text: EOS."""


@dataclass(frozen=True)
class PackedVocabulary:
    """The parts of the file: `pairs` and `results` uint64 (merges,), `alphabet` uint32 (code points,)."""

    header: Header
    pairs: NDArray[np.uint64]
    results: NDArray[np.uint64]
    alphabet: NDArray[np.uint32]
    file: mmap.mmap | None = None
    """The mapped file; None when the arrays are in memory."""

    @classmethod
    def load(cls, path: Path) -> PackedVocabulary:
        """Map the file and read its header only. Raises ArtifactCorrupt when the file does not have this layout."""
        try:
            with path.open("rb") as opened:
                file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            size = int(np.frombuffer(file, "<u8", 1)[0])
            header = msgspec.json.decode(file[8 : 8 + size], type=Header)
            tables = np.frombuffer(file, "<u8", offset=8 + size)
            pairs, results, alphabet = np.split(tables, [header.merges, 2 * header.merges])
            return cls(header, pairs, results, alphabet.view("<u4")[: header.alphabet], file)
        except (IndexError, OverflowError, ValueError, msgspec.MsgspecError) as error:
            raise ArtifactCorrupt(f"{path}: not a packed tokenizer ({error}); run the export again") from error

    def write(self, file: BinaryIO) -> None:
        """Write the layout above."""
        header = msgspec.json.encode(self.header)
        header += b" " * (-len(header) % 8)
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(self.pairs.astype("<u8").tobytes() + self.results.astype("<u8").tobytes())
        file.write(np.resize(self.alphabet, -(-len(self.alphabet) // 2) * 2).astype("<u4").tobytes())


class PackedTokenizer:
    """Text -> token ids. Thread-safe: the arrays are read-only, and `lru_cache` is thread-safe."""

    def __init__(self, vocabulary: PackedVocabulary, *, enough: int | None = None) -> None:
        """`enough`: number of ids after which the rest of a text is skipped, because the row would be truncated."""
        header = vocabulary.header
        self._header = header
        self._enough = enough
        # Indexing a memoryview gives a Python int in a third of the time that indexing a numpy array takes.
        self._pairs, self._results = vocabulary.pairs.data, vocabulary.results.data
        self._alphabet = vocabulary.alphabet.data
        longest_first = sorted(header.added, key=len, reverse=True)
        self._added = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})")
        mark = re.escape(header.space)
        self._file = vocabulary.file
        self._known = lru_cache(_KNOWN_WORDS)(self._encoded)
        self._word = re.compile(f"{mark}*[^{mark}]+|{mark}+" if header.splits_words else "(?s:.+)")

    def __call__(self, text: str) -> list[int]:
        """Text -> ids, suffix included. Stops after the word whose ids exceed `enough`."""
        ids: list[int] = []
        for part in self._parts(text):
            ids += part
            if self._enough is not None and len(ids) > self._enough:
                break
        return [*ids, *self._header.suffix]

    def rest(self) -> None:
        """Unmap the pages of the file that texts have read; the next texts map the pages that they need."""
        if self._file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._file.madvise(mmap.MADV_DONTNEED)

    def _parts(self, text: str) -> Iterator[Sequence[int]]:
        """Ids per word or added token, in order."""
        for index, part in enumerate(self._added.split(text)):
            if index % 2:
                yield (self._header.added[part],)
            else:
                for word in self._word.findall(part.replace(" ", self._header.space)):
                    yield self._known(word) if len(word) <= _KNOWN_CHARS else self._encoded(word)

    def _encoded(self, word: str) -> Sequence[int]:
        return self._merged([symbol for character in word for symbol in self._spelt(character)])

    def _spelt(self, character: str) -> tuple[int, ...]:
        """The id of a character, or the ids of its UTF-8 bytes."""
        code = ord(character)
        if code < len(self._alphabet) and (symbol := self._alphabet[code]) != UNKNOWN:
            return (symbol,)
        return tuple(self._header.byte_ids[byte] for byte in character.encode())

    def _merged(self, ids: list[int]) -> list[int]:
        """Merge neighbours until no known pair is left: the lowest rank first, among equal ranks the leftmost pair."""
        before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
        queue: list[tuple[int, int, int, int]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(ids):
                pair = ids[left] << 32 | ids[right]
                if (result := self._result(pair)) is not None:
                    heapq.heappush(queue, (result, left, right, pair))

        for right in range(1, len(ids)):
            offer(right - 1, right)
        while queue:
            result, left, right, pair = heapq.heappop(queue)
            if ids[left] << 32 | ids[right] != pair:
                continue  # stale: a symbol of this pair has been merged with another neighbour
            ids[left], ids[right] = result & _LOW, _GONE
            after[left] = after[right]
            if after[left] < len(ids):
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [symbol for symbol in ids if symbol != _GONE]

    def _result(self, pair: int) -> int | None:
        """Pair of ids -> rank << 32 | merged id; None when the pair does not merge."""
        place = bisect_left(self._pairs, pair)
        if place < len(self._pairs) and self._pairs[place] == pair:
            return self._results[place]
        return None
