"""Byte-pair encoding of one word: neighbours merge, the lowest rank first."""

from __future__ import annotations

import heapq
import re
from collections.abc import Mapping, Sequence

from siglip_edge.runtime.text.packed.branches import NOWHERE, Branches
from siglip_edge.runtime.text.packed.file_layout import UNKNOWN, BytePairs, Table

_GONE = -1
"""Marks a symbol that has been merged into its left neighbour."""
_LOW = 0xFFFF_FFFF
"""Mask of the merged id in a result."""


class BytePairModel:
    """A part of a text -> words -> ids."""

    def __init__(self, spec: BytePairs, tables: Mapping[str, Table]) -> None:
        self._pairs = Branches(tables["first"], tables["labels"])
        self._results = tables["results"].data
        self._alphabet = tables["alphabet"].data
        self._endings = tables["endings"].data if "endings" in tables else None
        self._byte_ids = spec.byte_ids
        self._word = _word_pattern(re.escape(spec.word_start), re.escape(spec.joining))

    def words(self, part: str) -> Sequence[str]:
        """Cut where no merge can join."""
        words: list[str] = self._word.findall(part)
        return words

    def ids(self, word: str) -> list[int]:
        symbols = [symbol for character in word for symbol in self._spelt(character)]
        if self._endings is not None:
            symbols[-1] = self._endings[ord(word[-1])]
        return self._merged(symbols)

    def _spelt(self, character: str) -> tuple[int, ...]:
        """The id of a character, or the ids of its UTF-8 bytes."""
        code = ord(character)
        if code < len(self._alphabet) and (symbol := self._alphabet[code]) != UNKNOWN:
            return (symbol,)
        return tuple(self._byte_ids[byte] for byte in character.encode())

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


def _word_pattern(start: str, joining: str) -> re.Pattern[str]:
    if not start:
        return re.compile("(?s:.+)")
    chunk = f"[^{start}]+"
    if joining:
        chunk = f"(?:{chunk}(?:(?<=[{joining}]){start}+)?)+"
    return re.compile(f"{start}*{chunk}|{start}+")
