"""Lengths of rows, and lengths of vectors that a checkpoint was trained for."""

from __future__ import annotations

from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.text.layout import Layout
from siglip_edge.runtime.artifacts.manifest import Buckets, MatryoshkaSpec

_SHORTEST = 16
"""A run of fewer tokens takes as long: most of it is starting operators and reading weights."""

_TRAINED_FOR = {
    # The query prompt names the model, in fine-tuned copies too; the lengths are those of the model's card.
    "task: search result | query: ": (128, 256, 512),  # google/embeddinggemma-300m
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:": tuple(
        range(32, 4096, 32)
    ),  # Qwen/Qwen3-Embedding: any length from 32; multiples of 32 are offered
}


def buckets(longest: int) -> Buckets:
    """16, 32, 48, 64, 96, 128, 192, ... up to `longest`: at most a half of a row longer than 32 tokens is padding.

    A row of 33 tokens takes the time of 48.
    """
    lengths, length = [], _SHORTEST
    while length < longest:
        lengths += [length, *([length * 3 // 2] if length > _SHORTEST and length * 3 // 2 < longest else [])]
        length *= 2
    return Buckets(lengths=(*lengths, longest))


def longest_row(source: str, layout: Layout, transformer: Any, tokenizer: Any) -> int:
    """Most tokens per text. Raises ExportError when the checkpoint asks for more than it has positions."""
    padding = padding_without_position(transformer)
    positions = transformer.config.max_position_embeddings - (0 if padding is None else padding + 1)
    return longest_of(source, layout, positions, tokenizer.model_max_length)


def longest_of(source: str, layout: Layout, positions: int, tokenizer_takes: int) -> int:
    """Most tokens per text of a checkpoint with so many positions for tokens."""
    if layout.longest is None:
        return int(min(positions, tokenizer_takes))
    if layout.longest > positions:
        raise ExportError(f"{source}: max_seq_length is {layout.longest}, but it has {positions} positions; lower it")
    return layout.longest


def padding_without_position(transformer: Any) -> int | None:
    """The token that RoBERTa and its relatives leave out when they count positions, which begin after its id."""
    found: int | None = getattr(getattr(transformer, "embeddings", None), "padding_idx", None)
    return found


def matryoshka(layout: Layout, dimensions: int) -> MatryoshkaSpec | None:
    """None: nothing is known about shorter vectors."""
    lengths = _TRAINED_FOR.get(layout.prompts.get("query", ""), ())
    shorter = tuple(length for length in lengths if length < dimensions)
    return MatryoshkaSpec(lengths=shorter) if shorter else None
