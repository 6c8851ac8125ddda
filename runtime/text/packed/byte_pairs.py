"""Byte-pair encoding of one word: neighbours merge, the lowest rank first."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence

from siglip_edge.runtime.text.packed.branches import NOWHERE, Branches
from siglip_edge.runtime.text.packed.file_layout import UNKNOWN, BytePairs, Table

_GONE = -1
"""Marks a symbol that has been merged into its left neighbour."""
_LOW = 0xFFFF_FFFF
"""Mask of the merged id in a result."""


class BytePairModel:
    """A part of a text -> words -> ids."""

    def __init__(self, spec: BytePairs, tables: Mapping[str, Table]) -> None:
        self._spec = spec
        self._pairs = Branches(tables["first"], tables["labels"])
        self._results = tables["results"].data
        self._alphabet = tables["alphabet"].data
        self._endings = tables["endings"].data if "endings" in tables else None
        self._word = _word_pattern(re.escape(spec.word_start), re.escape(spec.joining))

    def words(self, part: str) -> Sequence[str]:
        """Cut where no merge can join."""
        words: list[str] = self._word.findall(part)
        return words

    def steps(self, word: str) -> Iterator[Sequence[int]]:
        yield self.ids(word)

    def ids(self, word: str) -> list[int]:
        symbols: list[int] = []
        after_unknown = False
        last = len(word) - 1
        for place, character in enumerate(word):
            alphabet = self._alphabet if place < last or self._endings is None else self._endings
            if (symbol := _at(alphabet, ord(character))) != UNKNOWN:
                symbols.append(symbol)
            elif self._spec.byte_ids:
                symbols += [self._spec.byte_ids[byte] for byte in character.encode()]
            elif self._spec.unknown is not None and not (after_unknown and self._spec.joins_unknown):
                symbols.append(self._spec.unknown)
            after_unknown = symbol == UNKNOWN
        return self._merged(symbols)

    def _merged(self, ids: list[int]) -> list[int]:
        """Merge neighbours until no known pair is left: the lowest rank first, among equal ranks the leftmost pair."""
        before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
        queue: list[tuple[int, int, int, int, int]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(ids) and (place := self._pairs.place(ids[left], ids[right])) != NOWHERE:
                heapq.heappush(queue, (self._results[place], left, right, ids[left], ids[right]))

        for right in range(1, len(ids)):
            offer(right - 1, right)
        while queue:
            result, left, right, left_id, right_id = heapq.heappop(queue)
            if ids[left] != left_id or ids[right] != right_id:
                continue  # stale: a symbol of this pair has been merged with another neighbour
            ids[left], ids[right] = result & _LOW, _GONE
            after[left] = after[right]
            if after[left] < len(ids):
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        return [symbol for symbol in ids if symbol != _GONE]


def _at(alphabet: memoryview[int], code: int) -> int:
    return alphabet[code] if code < len(alphabet) else UNKNOWN


def _word_pattern(start: str, joining: str) -> re.Pattern[str]:
    if not start:
        return re.compile("(?s:.+)")
    chunk = f"[^{start}]+"
    if joining:
        chunk = f"(?:{chunk}(?:(?<=[{joining}]){start}+)?)+"
    return re.compile(f"{start}*{chunk}|{start}+")
