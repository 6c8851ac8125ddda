"""A BPE model of a tokenizer.json -> tables. Two alphabets: characters with their UTF-8 bytes in reserve, or bytes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.runtime.text.packed.file_layout import UNKNOWN, BytePairs, Table

_ABSENT = ("dropout", "continuing_subword_prefix", "ignore_merges")
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def pack_byte_pairs(description: dict[str, Any]) -> tuple[BytePairs, dict[str, Table]]:
    """Raises NotPackable, naming the first property that the packed form does not have."""
    model = description["model"]
    vocabulary, ending = model["vocab"], model.get("end_of_word_suffix") or ""
    if extra := [key for key in _ABSENT if model.get(key)]:
        raise NotPackable(f"its model has {extra[0]}")
    if ending and model["byte_fallback"]:
        raise NotPackable("its model has both end_of_word_suffix and byte fallback")
    tables = {**_merges(model), "alphabet": _alphabet(vocabulary)}
    if ending:
        endings = {piece.removesuffix(ending): index for piece, index in vocabulary.items() if piece.endswith(ending)}
        tables["endings"] = _alphabet(endings)
    if model["byte_fallback"]:
        return BytePairs(byte_ids=byte_ids(vocabulary), **_words(description)), tables
    _check_bytes(description, tables)
    return BytePairs(), tables


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


def _words(description: dict[str, Any]) -> dict[str, str]:
    """`word_start` and `joining`: the last characters of words that a merge joins with the next word.

    Nothing where a merge has a byte's piece, whose name is not its text.
    """
    space = (description["normalizer"] or {}).get("content", "")
    merges = description["model"]["merges"]
    if len(space) != 1 or any(_BYTE.search(half) for merge in merges for half in merge):
        return {}
    joining = {left[-1] for left, right in merges if right[0] == space != left[-1]}
    return {"word_start": space, "joining": "".join(sorted(joining))}


def _check_bytes(description: dict[str, Any], tables: dict[str, Table]) -> None:
    """Without byte fallback every character must have a piece, which is so where characters stand for bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    if not (_is_byte_level(description["pre_tokenizer"]) or _is_byte_level(description["normalizer"])):
        raise NotPackable("its model has neither byte fallback nor an alphabet of bytes")
    codes = [ord(character) for character in ByteLevel.alphabet()]
    for name in {"alphabet", "endings"} & set(tables):
        missing = [code for code in codes if code >= len(tables[name]) or tables[name][code] == UNKNOWN]
        if missing:
            raise NotPackable(f"it has no piece for {len(missing)} of the 256 bytes")


def _is_byte_level(part: dict[str, Any] | None) -> bool:
    """Whether a normalizer or a pre-tokenizer ends with the change of bytes to characters."""
    steps = [part] if part else []
    while steps and steps[-1]["type"] == "Sequence":
        steps = steps[-1].get("pretokenizers") or steps[-1].get("normalizers") or []
    return bool(steps) and steps[-1]["type"] == "ByteLevel"
