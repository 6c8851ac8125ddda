"""Text -> row of token ids, for serving and for calibration alike. Pure.

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
"""Input of a graph whose vocabulary is outside the graph. A row holds `token_ids`; `graph_inputs` looks them up."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonicalize(text: str, spec: TextTower) -> str:
    """Apply the tower's text rules, which come before the tokenizer. Each rule is a field of TextTower."""
    if spec.strip:
        text = text.strip()
    if spec.lowercase:
        text = text.lower()
    if spec.strip_punctuation:
        text = " ".join(text.translate(_PUNCTUATION).split())
    return text


def text_row(text: str, tokenize: Callable[[str], list[int]], spec: TextTower) -> TextRow:
    """Canonicalize, tokenize, pad. `tokenize` returns ids with the prefix and the suffix."""
    return padded(tokenize(canonicalize(text, spec)), spec)


def padded(ids: Sequence[int], spec: TextTower) -> TextRow:
    """Token ids, prefix and suffix included -> a row: int64 (length,) arrays, cost in tokens.

    The row has the tower's full length, or the length of the smallest bucket that holds the ids. SigLIP pools the last
    position and was trained on full-length rows, so a shorter row would give a wrong vector. A text that is too long
    is truncated before its suffix.
    """
    ends = _end(ids, spec)
    truncated = len(ids) > min(ends, spec.length)
    ids = ids[:ends]
    if len(ids) > spec.length:
        ids = [*ids[: spec.length - len(spec.suffix_ids)], *spec.suffix_ids]
    length = next(length for length in _lengths(spec) if length >= len(ids))
    row = np.full(length, spec.pad_id, np.int64)
    row[: len(ids)] = ids
    arrays = {TOKEN_IDS: row}
    if ATTENTION_MASK in spec.inputs:
        arrays[ATTENTION_MASK] = (np.arange(length) < len(ids)).astype(np.int64)
    return TextRow(Row(arrays, cost=length), len(ids), truncated)


def _end(ids: Sequence[int], spec: TextTower) -> int:
    """Number of ids that the tower sees."""
    end = spec.suffix_ids[-1] if spec.pools_first_end else None
    return ids.index(end) + 1 if end in ids else len(ids)


def _lengths(spec: TextTower) -> tuple[int, ...]:
    """Possible lengths of a row, ascending."""
    return spec.padding.lengths if isinstance(spec.padding, Buckets) else (spec.length,)
