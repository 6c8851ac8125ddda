"""Text -> token ids: the serving contract, and the calibration rows' too. Pure.

The reference is big_vision's SigLIP2 pipeline `lower | tok(length=64, model='gemma', bos='no', eos='sticky')`.
"""

from __future__ import annotations

import string
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.manifest import TextSpec

TokenIds = NDArray[np.int64]

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonicalize(text: str, spec: TextSpec) -> str:
    """The family's rule before the tokenizer: SigLIP2 lower-cases; SigLIP also drops punctuation and folds spaces."""
    if spec.lowercase:
        text = text.lower()
    if spec.strip_punctuation:
        text = " ".join(text.translate(_PUNCTUATION).split())
    return text


def pad(ids: list[int], spec: TextSpec) -> tuple[TokenIds, int, bool]:
    """Token ids (EOS last) to the tower's full length. -> ((length,) int64, real tokens, whether it was truncated).

    SigLIP pools the last position and was trained on full-length rows: padding to anything shorter is a wrong
    vector. A text that is too long keeps its EOS.
    """
    truncated = len(ids) > spec.length
    if truncated:
        ids = [*ids[: spec.length - 1], spec.eos_id]
    row = np.full(spec.length, spec.pad_id, np.int64)
    row[: len(ids)] = ids
    return row, len(ids), truncated


def token_ids(text: str, tokenize: Callable[[str], list[int]], spec: TextSpec) -> tuple[TokenIds, int, bool]:
    """Canonicalise, tokenize, pad. `tokenize` returns ids with EOS and without BOS; the result is `pad`'s."""
    return pad(tokenize(canonicalize(text, spec)), spec)
