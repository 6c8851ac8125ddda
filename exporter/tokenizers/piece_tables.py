"""Unigram and WordPiece models of a tokenizer.json -> a trie of their pieces."""

from __future__ import annotations

from collections.abc import Mapping
from os.path import commonprefix
from typing import Any

import numpy as np

from siglip_edge.exporter.tokenizers.byte_pair_tables import byte_ids
from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.runtime.text.packed.file_layout import UNKNOWN, Table, Unigram, WordPieces

_UNKNOWN_PENALTY = 10.0
"""The library's K_UNK_PENALTY: an unknown character scores so much less than the worst piece."""


def pack_unigram(description: dict[str, Any]) -> tuple[Unigram, dict[str, Table]]:
    """Raises NotPackable when the model has no piece for what is unknown."""
    model = description["model"]
    if model["unk_id"] is None:
        raise NotPackable("its model has no piece for what is unknown")
    ids = {piece: index for index, (piece, _) in enumerate(model["vocab"])}
    scores = np.array([score for _, score in model["vocab"]], np.float64)
    spec = Unigram(
        unknown=model["unk_id"],
        unknown_score=float(scores.min()) - _UNKNOWN_PENALTY,
        byte_ids=byte_ids(ids) if model.get("byte_fallback") else (),
    )
    return spec, {**trie(ids), "scores": scores}


def pack_word_pieces(description: dict[str, Any]) -> tuple[WordPieces, dict[str, Table]]:
    """Raises NotPackable when the model has no piece for what is unknown."""
    model = description["model"]
    ids = model["vocab"]
    if model["unk_token"] not in ids:
        raise NotPackable("its model has no piece for what is unknown")
    spec = WordPieces(
        unknown=ids[model["unk_token"]],
        longest=model["max_input_chars_per_word"],
        continuing=model["continuing_subword_prefix"],
    )
    return spec, trie(ids)


def trie(ids: Mapping[str, int]) -> dict[str, Table]:
    """Piece -> id, as the tables of `branches.Trie`: nodes numbered by depth, then in the order of their pieces."""
    depths, codes, parents, ends = _nodes(sorted(filter(None, ids)))
    order = np.argsort(depths, kind="stable")
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    pieces = np.full(len(order), UNKNOWN, np.uint32)
    pieces[number[list(ends.values())]] = [ids[piece] for piece in ends]
    return {
        "first": np.searchsorted(number[parents[order[1:]]], np.arange(len(order) + 1)).astype(np.uint32),
        "labels": codes[order[1:]].astype(np.uint32),
        "pieces": pieces,
    }


def _nodes(pieces: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """Ascending pieces -> depth, last code point and parent of every node, in preorder; the node of each piece."""
    depths, codes, parents, ends = [0], [0], [0], {}
    path, before = [0], ""
    for piece in pieces:
        shared = len(commonprefix((before, piece)))  # noqa: RUF071 - of strings, not of paths
        del path[shared + 1 :]
        for depth in range(shared, len(piece)):
            depths.append(depth + 1)
            codes.append(ord(piece[depth]))
            parents.append(path[-1])
            path.append(len(depths) - 1)
        ends[piece], before = path[-1], piece
    return np.array(depths), np.array(codes), np.array(parents), ends
