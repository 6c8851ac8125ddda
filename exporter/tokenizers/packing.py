"""`tokenizer.json` -> a packed tokenizer, where one gives the same ids; proven on texts of many scripts and hostile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from siglip_edge.exporter.tokenizers.byte_pair_tables import pack_byte_pairs
from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.exporter.tokenizers.piece_tables import pack_unigram, pack_word_pieces
from siglip_edge.exporter.tokenizers.probes import long_texts, probe_texts
from siglip_edge.exporter.tokenizers.splitting import pack_splitting
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import PackedTokenizerSpec
from siglip_edge.runtime.text.packed.file_layout import (
    LAYOUT,
    BytePairs,
    Header,
    PackedFile,
    Table,
    Unigram,
    WordPieces,
)
from siglip_edge.runtime.text.packed.tokenizer import PackedTokenizer
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer

PROBES = 20_000
"""Texts that an export compares; `python -m siglip_edge.bench.tokenizer` compares a million."""

Model = tuple[BytePairs | Unigram | WordPieces, dict[str, Table]]

_MODELS: dict[str, Callable[[dict[str, Any]], Model]] = {
    "BPE": pack_byte_pairs,
    "Unigram": pack_unigram,
    "WordPiece": pack_word_pieces,
}


def write_packed_tokenizer(
    directory: Path, source: Path, progress: Callable[[Iterable[Any], str], Iterable[Any]]
) -> PackedTokenizerSpec:
    """Pack `source` into `directory` and prove every probe's ids equal. Raises NotPackable, nothing written."""
    reference = HuggingFaceTokenizer(source)
    description = read_description(reference)
    packed_file = pack(description, *added_around(reference))
    path = directory / "tokenizer.bin"
    with path.open("wb") as file:
        packed_file.write(file)
    packed = PackedTokenizer(PackedFile.load(path))
    for text in progress(chain(probe_texts(description, PROBES), long_texts(description)), "tokenizer: prove"):
        if packed(text) != reference(text):
            path.unlink()
            raise NotPackable(f"packed, it gives other ids for {text[:100]!r}")
    return PackedTokenizerSpec(file=record_file(directory, path), probes=PROBES, layout=LAYOUT)


def read_description(reference: HuggingFaceTokenizer) -> dict[str, Any]:
    """The library's own serialization, because the library may read a score of the file as its neighbouring float."""
    description: dict[str, Any] = json.loads(reference.library.to_str())
    return description


def added_around(reference: HuggingFaceTokenizer) -> tuple[list[int], list[int]]:
    """-> ids before and after every text. Raises NotPackable when they depend on the text."""
    around = reference("")
    probes = ("a photo", "2 3", "的")
    bare = [reference.library.encode(text, add_special_tokens=False).ids for text in probes]
    for cut in range(len(around) + 1):
        prefix, suffix = around[:cut], around[cut:]
        if all(reference(text) == [*prefix, *ids, *suffix] for text, ids in zip(probes, bare, strict=True)):
            return prefix, suffix
    raise NotPackable("its post-processor does more than to add ids before and after a text")


def pack(description: dict[str, Any], prefix: Iterable[int], suffix: Iterable[int]) -> PackedFile:
    """A parsed tokenizer.json -> its tables. Raises NotPackable."""
    kind = description["model"]["type"]
    if kind not in _MODELS:
        raise NotPackable(f"its model is {kind}, not {', '.join(_MODELS)}")
    model, tables = _MODELS[kind](description)
    header = Header(
        tables={name: (table.dtype.newbyteorder("<").str, len(table)) for name, table in tables.items()},
        splitting=pack_splitting(description),
        model=model,
        prefix=tuple(prefix),
        suffix=tuple(suffix),
    )
    return PackedFile(header, tables)
