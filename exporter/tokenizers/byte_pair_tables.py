"""A BPE model of a tokenizer.json -> tables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.runtime.text.packed.file_layout import UNKNOWN, BytePairs, Table

_ABSENT = ("dropout", "continuing_subword_prefix", "ignore_merges")
_SPACE = "▁"
"""Begins words in the pieces of SentencePiece."""
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def pack_byte_pairs(description: dict[str, Any]) -> tuple[BytePairs, dict[str, Table]]:
    """Raises NotPackable, naming the first property that the packed form does not have."""
    model = description["model"]
    vocabulary, ending = model["vocab"], model.get("end_of_word_suffix") or ""
    if extra := [key for key in _ABSENT if model.get(key)]:
        raise NotPackable(f"its model has {extra[0]}")
    if ending and model["byte_fallback"]:
        raise NotPackable("its model has both end_of_word_suffix and byte fallback")
    if model["unk_token"] is not None and model["unk_token"] not in vocabulary:
        raise NotPackable("its model has no piece for what is unknown")
    tables = {**_merges(model), "alphabet": _alphabet(vocabulary)}
    if ending:
        endings = {piece.removesuffix(ending): index for piece, index in vocabulary.items() if piece.endswith(ending)}
        tables["endings"] = _alphabet(endings)
    spec = BytePairs(
        byte_ids=byte_ids(vocabulary) if model["byte_fallback"] else (),
        unknown=vocabulary.get(model["unk_token"]),
        joins_unknown=model["fuse_unk"],
        **({} if ending else _words(model)),
    )
    return spec, tables


def _merges(model: dict[str, Any]) -> dict[str, Table]:
    """Merges by left id, then right id; of a pair that is listed twice the last rank counts, as in the library."""
    vocabulary = model["vocab"]
    results = {
        (vocabulary[left], vocabulary[right]): rank << 32 | vocabulary[left + right]
        for rank, (left, right) in enumerate(model["merges"])
    }
    pairs = np.array(sorted(results), np.uint32).reshape(-1, 2)
    ids = max(vocabulary.values()) + 1
    return {
        "first": np.searchsorted(pairs[:, 0], np.arange(ids + 1)).astype(np.uint32),
        "labels": pairs[:, 1].copy(),
        "results": np.array([results[pair] for pair in sorted(results)], np.uint64),
    }


def _alphabet(vocabulary: dict[str, int]) -> np.ndarray:
    """Id per code point of the pieces of one character."""
    single = {ord(piece): index for piece, index in vocabulary.items() if len(piece) == 1}
    alphabet = np.full(max(single, default=0) + 1, UNKNOWN, np.uint32)
    alphabet[list(single)] = list(single.values())
    return alphabet


def byte_ids(vocabulary: dict[str, int]) -> tuple[int, ...]:
    """Id of every byte's piece. Some of Gemma's lack an ASCII byte's, whose character is then a piece itself."""
    ids = [vocabulary.get(f"<0x{byte:02X}>", vocabulary.get(chr(byte)) if byte < 0x80 else None) for byte in range(256)]
    known = tuple(index for index in ids if index is not None)
    if len(known) < len(ids):
        raise NotPackable(f"it has no piece for {len(ids) - len(known)} of the 256 bytes")
    return known


def _words(model: dict[str, Any]) -> dict[str, str]:
    """`word_start` and `joining`: the last characters of words that a merge joins with the next word.

    Nothing where a merge has a piece whose name is not its text, or where characters are dropped between words.
    """
    vocabulary, merges, unknown = model["vocab"], model["merges"], model["unk_token"]
    nameless = any(half == unknown or _BYTE.search(half) for merge in merges for half in merge)
    if _SPACE not in vocabulary or nameless or (unknown is None and not model["byte_fallback"]):
        return {}
    joining = {left[-1] for left, right in merges if right[0] == _SPACE != left[-1]}
    return {"word_start": _SPACE, "joining": "".join(sorted(joining))}
