"""Rows for timings: of each length at which a model's time is of interest."""

from __future__ import annotations

from siglip_edge.runtime.artifacts.manifest import Buckets, Manifest, Tower
from siglip_edge.runtime.checks.selftest import noise, texts_of
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row

QUERY, PASSAGE, PAGE = 16, 128, 512
"""Tokens of a search query, of a paragraph and of a page of text."""


def timed_lengths(manifest: Manifest, tower: Tower, *tokens: int) -> tuple[int | None, ...]:
    """The lengths of the tower's rows that hold `tokens`, each once; None: all its rows have one length."""
    if tower is Tower.VISION or not isinstance(padding := manifest.text.padding, Buckets):
        return (None,)
    lengths = padding.lengths
    holding = (next((length for length in lengths if length >= wanted), lengths[-1]) for wanted in tokens)
    return tuple(dict.fromkeys(holding))


def rows_of_length(model: EmbeddingModel, tower: Tower, count: int, tokens: int | None) -> list[Row]:
    """`count` different rows of one of the `timed_lengths`."""
    return noise(model, tower, count) if tokens is None else texts_of(model, model.manifest.text, tokens, count)
