"""The file of a packed tokenizer: a JSON header, then tables that are mapped and read where they lie.

Little-endian; the length of every part is a multiple of eight bytes:

    uint64   bytes of the header
    JSON     the header, padded with spaces
    tables   in the order of `Header.tables`, each padded with zeros

`exporter.tokenizers.packing` writes the file and compares its ids with those of the `tokenizers` library. Files of
layout 1 (Gemma's form only, no `tables` in the header) are read as well: `layout_1` describes them.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.errors import ArtifactCorrupt
from siglip_edge.runtime.text.packed.layout_1 import read_layout_1

LAYOUT = 2
"""Recorded in the manifest, so that a version which knows only layout 1 refuses the model in words."""
UNKNOWN = 0xFFFF_FFFF
"""In a table of ids: no piece."""

Table = NDArray[Any]


class _Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A part of the header that has several forms."""


class SpaceSplitting(_Kind, frozen=True, tag="spaces"):
    """Gemma's: added tokens are cut out of the text, longer tokens before shorter ones; spaces become `space`."""

    added: dict[str, int]
    space: str
    """U+2581 in Gemma's tokenizer."""


class LibrarySplitting(_Kind, frozen=True, tag="library"):
    """Added tokens, normalizer and pre-tokenizer of the `tokenizers` library, without the model."""

    tokenizer: str
    """A tokenizer.json whose model has no vocabulary."""
    added: dict[int, int]
    """Id of an added token in that tokenizer -> its id in the vocabulary."""


class BytePairs(_Kind, frozen=True, tag="byte_pairs"):
    """Byte-pair encoding. Tables: `first`, `labels`, `results`, `alphabet`; `endings` if last characters differ.

    `first` uint32 (ids + 1,) and `labels` uint32 (merges,): per left id the right ids that it merges with, ascending.
    `results` uint64 (merges,): rank << 32 | merged id. `alphabet`, `endings` uint32 (code points,): id of a character.
    """

    byte_ids: tuple[int, ...] = ()
    """Ids of the bytes that spell a character without a piece."""
    unknown: int | None = None
    """Without `byte_ids`: id of a character without a piece. None: it is dropped."""
    joins_unknown: bool = False
    """Neighbours without a piece are one unknown."""
    word_start: str = ""
    """Words begin with this character and are encoded separately; empty: a part is encoded as a whole."""
    joining: str = ""
    """Characters that some merge joins with a `word_start` after them, so that the word goes on."""


class Unigram(_Kind, frozen=True, tag="unigram"):
    """The likeliest pieces. Tables: `first`, `labels` (a trie), `pieces` uint32 (nodes,), `scores` float64 (ids,)."""

    unknown: int
    """Id of what has no piece."""
    unknown_score: float
    byte_ids: tuple[int, ...] = ()
    """Ids of the bytes that spell what has no piece; empty: it is `unknown`."""


class WordPieces(_Kind, frozen=True, tag="word_pieces"):
    """Greedy longest pieces. Tables: `first`, `labels` (a trie), `pieces` uint32 (nodes,)."""

    unknown: int
    longest: int
    """A word of more characters is `unknown`."""
    continuing: str
    """Begins every piece that does not begin a word; `##` in BERT's vocabularies."""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The small parts."""

    tables: dict[str, tuple[str, int]]
    """Name -> dtype and number of values."""
    splitting: SpaceSplitting | LibrarySplitting
    model: BytePairs | Unigram | WordPieces
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    """Ids around every text, such as BOS and EOS."""


@dataclass(frozen=True)
class PackedFile:
    """A header and its tables."""

    header: Header
    tables: Mapping[str, Table]
    file: mmap.mmap | None = None
    """The mapped file; None when the tables are in memory."""

    @classmethod
    def load(cls, path: Path) -> PackedFile:
        """Map the file and read its header only. Raises ArtifactCorrupt when the file does not have this layout."""
        try:
            with path.open("rb") as opened:
                file = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            size = int(np.frombuffer(file, "<u8", 1)[0])
            head = file[8 : 8 + size]
            if "tables" not in msgspec.json.decode(head, type=dict[str, msgspec.Raw]):
                old, tables = read_layout_1(msgspec.json.decode(head), np.frombuffer(file, "<u8", offset=8 + size))
                return cls(msgspec.convert(old, Header), tables, file)
            header = msgspec.json.decode(head, type=Header)
            return cls(header, _tables(header, file, 8 + size), file)
        except (IndexError, KeyError, OverflowError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise ArtifactCorrupt(f"{path}: not a packed tokenizer ({error}); run the export again") from error

    def write(self, file: BinaryIO) -> None:
        """Write the layout above."""
        header = msgspec.json.encode(self.header)
        header += b" " * (-len(header) % 8)
        file.write(len(header).to_bytes(8, "little") + header)
        for name, (dtype, _) in self.header.tables.items():
            content = self.tables[name].astype(dtype).tobytes()
            file.write(content + bytes(-len(content) % 8))


def _tables(header: Header, file: mmap.mmap, offset: int) -> dict[str, Table]:
    tables = {}
    for name, (dtype, count) in header.tables.items():
        tables[name] = np.frombuffer(file, dtype, count, offset)
        offset += -(-tables[name].nbytes // 8) * 8
    if offset != len(file):
        raise ValueError(f"{len(file)} bytes instead of {offset}")
    return tables
