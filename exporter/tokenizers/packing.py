"""`tokenizer.json` -> a packed tokenizer, where one gives the same ids; proven on texts of many scripts and hostile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.tokenizers.probes import probe_texts
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import PackedTokenizerSpec
from siglip_edge.runtime.text.packed_tokenizer import UNKNOWN, Header, PackedTokenizer, PackedVocabulary
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer

PROBES = 20_000
"""Texts that an export compares; `python -m siglip_edge.bench.tokenizer` compares a million."""

_PLAIN_BPE = {"type": "BPE", "byte_fallback": True, "ignore_merges": False}
_ABSENT_IN_PLAIN_BPE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
_SPLIT_AT_SPACES = {"type": "Split", "pattern": {"String": " "}}
"""Gemma's: of no effect, because the normalizer leaves no spaces."""
_PLAIN_ADDED = ("normalized", "single_word", "lstrip", "rstrip")


class NotPackable(ExportError):
    """The tokenizer does something that the packed form cannot; it is served from tokenizer.json."""


def write_packed_tokenizer(
    directory: Path, source: Path, progress: Callable[[Iterable[Any], str], Iterable[Any]]
) -> PackedTokenizerSpec:
    """Pack `source` into `directory` and prove every probe's ids equal. Raises NotPackable, nothing written."""
    reference = HuggingFaceTokenizer(source)
    description = json.loads(source.read_text(encoding="utf-8"))
    path = directory / "tokenizer.bin"
    with path.open("wb") as file:
        pack(description, suffix=reference("")).write(file)
    packed = PackedTokenizer(PackedVocabulary.load(path))
    for text in progress(probe_texts(description, PROBES), "tokenizer: prove"):
        if packed(text) != reference(text):
            path.unlink()
            raise NotPackable(f"packed, it gives other ids for {text[:100]!r}")
    return PackedTokenizerSpec(file=record_file(directory, path), probes=PROBES)


def pack(description: dict[str, Any], *, suffix: list[int]) -> PackedVocabulary:
    """A parsed tokenizer.json -> its tables. `suffix`: ids of the empty text. Raises NotPackable."""
    _check_form(description)
    vocabulary, merges = description["model"]["vocab"], description["model"]["merges"]
    space = description["normalizer"]["content"]
    results = {
        vocabulary[left] << 32 | vocabulary[right]: rank << 32 | vocabulary[left + right]
        for rank, (left, right) in enumerate(merges)
    }
    pairs = np.array(sorted(results), np.uint64)
    alphabet = _alphabet(vocabulary)
    header = Header(
        merges=len(pairs),
        alphabet=len(alphabet),
        added={token["content"]: token["id"] for token in description["added_tokens"]},
        space=space,
        splits_words=not any(space in (left + right).lstrip(space) for left, right in merges),
        byte_ids=_byte_ids(vocabulary),
        suffix=tuple(suffix),
    )
    return PackedVocabulary(header, pairs, np.array([results[int(pair)] for pair in pairs], np.uint64), alphabet)


def _check_form(description: dict[str, Any]) -> None:
    """Raise NotPackable, naming the first property of the tokenizer that the packed form does not have."""
    model = description["model"]
    if any(model.get(key) != value for key, value in _PLAIN_BPE.items()):
        raise NotPackable(f"its model is {model['type']}, not byte-pair encoding with byte fallback")
    if extra := [key for key in _ABSENT_IN_PLAIN_BPE if model.get(key)]:
        raise NotPackable(f"its model has {extra[0]}")
    if any(token[flag] for token in description["added_tokens"] for flag in _PLAIN_ADDED):
        raise NotPackable("it has added tokens that depend on the text around them")
    normalizer, splitter = description["normalizer"] or {}, description["pre_tokenizer"] or _SPLIT_AT_SPACES
    if (
        normalizer.get("type") != "Replace"
        or normalizer["pattern"] != {"String": " "}
        or len(normalizer["content"]) != 1
    ):
        raise NotPackable("its normalizer does not just replace spaces by one other character")
    if any(splitter.get(key) != value for key, value in _SPLIT_AT_SPACES.items()) or normalizer["content"] == " ":
        raise NotPackable("it splits texts before encoding them")


def _alphabet(vocabulary: dict[str, int]) -> np.ndarray:
    single = {ord(piece): index for piece, index in vocabulary.items() if len(piece) == 1}
    alphabet = np.full(max(single) + 1, UNKNOWN, np.uint32)
    alphabet[list(single)] = list(single.values())
    return alphabet


def _byte_ids(vocabulary: dict[str, int]) -> tuple[int, ...]:
    """Id of every byte's piece. Some of Gemma's lack an ASCII byte's, whose character is then a piece itself."""
    ids = [vocabulary.get(f"<0x{byte:02X}>", vocabulary.get(chr(byte)) if byte < 0x80 else None) for byte in range(256)]
    known = tuple(index for index in ids if index is not None)
    if len(known) < len(ids):
        raise NotPackable(f"it has no piece for {len(ids) - len(known)} of the 256 bytes")
    return known
