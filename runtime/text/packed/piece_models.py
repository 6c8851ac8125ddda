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
        """The part is seen as a whole."""
        return (part,)

    def ids(self, word: str) -> list[int]:
        """Neighbours without a piece are one unknown."""
        codes = list(map(ord, word))
        ids: list[int] = []
        for start, end, piece in self._runs(*self._best(codes)):
            ids += (piece,) if piece != self._spec.unknown else self._unknown(word, codes, start, end)
        return ids

    def _best(self, codes: Sequence[int]) -> tuple[list[int], list[int]]:
        """-> per end of a best path from the start (0 to the number of characters): its last piece's start and id."""
        size = len(codes)
        total, starts, pieces = [0.0] * (size + 1), [-1] * (size + 1), [0] * (size + 1)
        scores, beginnings, unknown = self._scores, self._trie.beginnings, self._spec.unknown
        for start in range(size):
            so_far = total[start]
            found = beginnings(codes, start)
            for end, piece in found:
                candidate = scores[piece] + so_far
                if starts[end] < 0 or candidate > total[end]:
                    total[end], starts[end], pieces[end] = candidate, start, piece
            if not found or found[0][0] != start + 1:
                candidate = self._spec.unknown_score + so_far
                if starts[start + 1] < 0 or candidate > total[start + 1]:
                    total[start + 1], starts[start + 1], pieces[start + 1] = candidate, start, unknown
        return starts, pieces

    def _runs(self, starts: list[int], pieces: list[int]) -> Iterator[tuple[int, int, int]]:
        """The best path's pieces, (start, end, id) in order; neighbours that are unknown are joined."""
        path: list[tuple[int, int, int]] = []
        end = len(starts) - 1
        while end > 0:
            start, piece = starts[end], pieces[end]
            if path and piece == path[-1][2] == self._spec.unknown:
                path[-1] = (start, path[-1][1], piece)
            else:
                path.append((start, end, piece))
            end = start
        return reversed(path)

    def _unknown(self, word: str, codes: Sequence[int], start: int, end: int) -> Sequence[int]:
        """A joined run may be a piece after all, one that scores worse than its unknown characters."""
        if (piece := self._trie.piece(codes[start:end])) is not None:
            return (piece,)
        if self._spec.byte_ids:
            return [self._spec.byte_ids[byte] for byte in word[start:end].encode()]
        return (self._spec.unknown,)


class WordPieceModel:
    """The longest piece that begins the word, then the longest that continues it; unknown if one is missing."""

    def __init__(self, spec: WordPieces, tables: Mapping[str, Table]) -> None:
        self._spec = spec
        self._trie = Trie(tables["first"], tables["labels"], tables["pieces"])
        self._continuing = self._trie.walk(list(map(ord, spec.continuing)))

    def words(self, part: str) -> Sequence[str]:
        """The part is seen as a whole."""
        return (part,)

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
