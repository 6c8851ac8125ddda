"""Models whose pieces stand in a trie: Unigram (the likeliest pieces) and WordPiece (the longest pieces)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from siglip_edge.runtime.text.packed.branches import Trie
from siglip_edge.runtime.text.packed.file_layout import Table, Unigram, WordPieces


class UnigramModel:
    """Viterbi's algorithm with the `tokenizers` library's order of sums and of comparisons, so that ties fall alike."""

    def __init__(self, spec: Unigram, tables: Mapping[str, Table]) -> None:
        self._spec = spec
        self._trie = Trie(tables["first"], tables["labels"], tables["pieces"])
        self._scores = tables["scores"].data

    def words(self, part: str) -> Sequence[str]:
        """The part is seen as a whole: a total that begins elsewhere is rounded otherwise, which decides ties."""
        return (part,)

    def ids(self, word: str) -> list[int]:
        return [index for step in self.steps(word) for index in step]

    def steps(self, word: str) -> Iterator[Sequence[int]]:
        """The ids of `ids`, as far as they are read: of a text without spaces, the rest is not computed."""
        codes = list(map(ord, word))
        begun = -1
        for start, _, piece in self._pieces(codes):
            if piece == self._spec.unknown:
                begun = start if begun < 0 else begun  # neighbours without a piece are one unknown
                continue
            if begun >= 0:
                yield self._unknown(word, codes, begun, start)
                begun = -1
            yield (piece,)
        if begun >= 0:
            yield self._unknown(word, codes, begun, len(codes))

    def _pieces(self, codes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """The pieces of the best path, (start, end, id). A place that no piece covers is passed by every path."""
        size = len(codes)
        total, starts, pieces = [0.0] * (size + 1), [-1] * (size + 1), [0] * (size + 1)
        scores, beginnings = self._scores, self._trie.beginnings
        passed = reach = 0
        for start in range(size):
            if start == reach:
                yield from _path(starts, pieces, passed, start)
                passed = start
            so_far = total[start]
            found = beginnings(codes, start)
            for end, piece in found:
                candidate = scores[piece] + so_far
                if starts[end] < 0 or candidate > total[end]:
                    total[end], starts[end], pieces[end] = candidate, start, piece
            end = start + 1
            if not found or found[0][0] != end:
                candidate = self._spec.unknown_score + so_far
                if starts[end] < 0 or candidate > total[end]:
                    total[end], starts[end], pieces[end] = candidate, start, self._spec.unknown
            reach = max(reach, found[-1][0] if found else end)
        yield from _path(starts, pieces, passed, size)

    def _unknown(self, word: str, codes: Sequence[int], start: int, end: int) -> Sequence[int]:
        """A joined run may be a piece after all, one that scores worse than its unknown characters."""
        if (piece := self._trie.piece(codes[start:end])) is not None:
            return (piece,)
        if self._spec.byte_ids:
            return [self._spec.byte_ids[byte] for byte in word[start:end].encode()]
        return (self._spec.unknown,)


def _path(starts: list[int], pieces: list[int], first: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Follow the best path back from `end` to `first` -> its pieces (start, end, id), in order."""
    path = []
    while end > first:
        path.append((starts[end], end, pieces[end]))
        end = starts[end]
    return reversed(path)


class WordPieceModel:
    """The longest piece that begins the word, then the longest that continues it; unknown if one is missing."""

    def __init__(self, spec: WordPieces, tables: Mapping[str, Table]) -> None:
        self._spec = spec
        self._trie = Trie(tables["first"], tables["labels"], tables["pieces"])
        self._continuing = self._trie.walk(list(map(ord, spec.continuing)))

    def words(self, part: str) -> Sequence[str]:
        """The part is seen as a whole."""
        return (part,)

    def steps(self, word: str) -> Iterator[Sequence[int]]:
        yield self.ids(word)

    def ids(self, word: str) -> list[int]:
        if len(word) > self._spec.longest:
            return [self._spec.unknown]
        codes = list(map(ord, word))
        ids: list[int] = []
        start, found = 0, self._trie.beginnings(codes, 0)
        while found:
            start, piece = found[-1]
            ids.append(piece)
            if start == len(codes):
                return ids
            found = self._trie.beginnings(codes, start, self._continuing) if self._continuing >= 0 else []
        return [self._spec.unknown]
