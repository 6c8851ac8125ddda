"""Labelled branches of numbered nodes in two flat tables: the merges of byte-pair encoding, or a trie of pieces."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.text.packed.file_layout import UNKNOWN

NOWHERE = -1
ROOT = 0


class Branches:
    """Branch -> its place in the table `labels`, uint32 (branches,); node n has those from first[n] to first[n + 1]."""

    def __init__(self, first: NDArray[np.uint32], labels: NDArray[np.uint32]) -> None:
        # Indexing a memoryview gives a Python int in a third of the time that indexing a numpy array takes.
        self._first, self._labels = first.data, labels.data
        self._nodes = len(first) - 1

    def place(self, node: int, label: int) -> int:
        """The branch's place, or NOWHERE."""
        if node >= self._nodes:
            return NOWHERE
        end = self._first[node + 1]
        place = bisect_left(self._labels, label, self._first[node], end)
        return place if place < end and self._labels[place] == label else NOWHERE


class Trie:
    """Pieces by their code points. The branch at place p leads to node p + 1; `pieces` is uint32 (nodes,)."""

    def __init__(self, first: NDArray[np.uint32], labels: NDArray[np.uint32], pieces: NDArray[np.uint32]) -> None:
        self._first, self._labels, self._pieces = first.data, labels.data, pieces.data
        self._branches = Branches(first, labels)

    def walk(self, codes: Sequence[int], node: int = ROOT) -> int:
        """Follow every code point -> the node, or NOWHERE."""
        for code in codes:
            node = self._branches.place(node, code) + 1
            if node == ROOT:
                return NOWHERE
        return node

    def piece(self, codes: Sequence[int]) -> int | None:
        """Id of the piece with exactly these code points."""
        node = self.walk(codes)
        return None if node == NOWHERE or self._pieces[node] == UNKNOWN else self._pieces[node]

    def beginnings(self, codes: Sequence[int], start: int, node: int = ROOT) -> list[tuple[int, int]]:
        """Pieces that begin at `start`, shortest first -> (end, id)."""
        first, labels, pieces = self._first, self._labels, self._pieces
        found = []
        for end in range(start, len(codes)):
            code, last = codes[end], first[node + 1]
            place = bisect_left(labels, code, first[node], last)
            if place == last or labels[place] != code:
                break
            node = place + 1
            if (piece := pieces[node]) != UNKNOWN:
                found.append((end + 1, piece))
        return found
