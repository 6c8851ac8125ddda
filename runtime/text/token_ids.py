"""Text -> row of token ids: the serving contract, and the calibration rows' too. Pure.

The reference for SigLIP2 is big_vision's pipeline `lower | tok(length=64, model='gemma', bos='no', eos='sticky')`.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

import numpy as np

from siglip_edge.runtime.artifacts.manifest import Buckets, TextTower
from siglip_edge.runtime.rows import Row, TextRow

TOKEN_IDS, ATTENTION_MASK = "token_ids", "attention_mask"
TOKEN_EMBEDDINGS = "token_embeddings"  # noqa: S105 - no password
"""The graph's input where the vocabulary is outside the graph; a row has `token_ids` in its place."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonicalize(text: str, spec: TextTower) -> str:
    """The tower's rules before the tokenizer. A new rule is a field of TextTower and a line here."""
    if spec.lowercase:
        text = text.lower()
    if spec.strip_punctuation:
        text = " ".join(text.translate(_PUNCTUATION).split())
    return text


def text_row(text: str, tokenize: Callable[[str], list[int]], spec: TextTower) -> TextRow:
    """Canonicalize, tokenize, pad. `tokenize` returns ids with the prefix and the suffix."""
    return padded(tokenize(canonicalize(text, spec)), spec)


def padded(ids: Sequence[int], spec: TextTower) -> TextRow:
    """Token ids, prefix and suffix included -> a row of the tower's full length, or of the bucket that holds them.

    SigLIP pools the last position and was trained on full-length rows: padding to anything shorter is a wrong vector.
    A text that is too long keeps its suffix.
    """
    truncated = len(ids) > spec.length
    if truncated:
        ids = [*ids[: spec.length - len(spec.suffix_ids)], *spec.suffix_ids]
    length = next(one for one in _lengths(spec) if one >= len(ids))
    row = np.full(length, spec.pad_id, np.int64)
    row[: len(ids)] = ids
    arrays = {TOKEN_IDS: row}
    if ATTENTION_MASK in spec.inputs:
        arrays[ATTENTION_MASK] = (np.arange(length) < len(ids)).astype(np.int64)
    return TextRow(Row(arrays, cost=length), len(ids), truncated)


def _lengths(spec: TextTower) -> tuple[int, ...]:
    """Lengths of rows, ascending."""
    return spec.padding.lengths if isinstance(spec.padding, Buckets) else (spec.length,)
