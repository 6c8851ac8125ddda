"""Layout 1 of a packed tokenizer, which shipped models have: Gemma's form, its merges as one ascending table of pairs.

After the header, whose fields are the numbers `merges` and `alphabet`, and `added`, `space`, `splits_words`, `byte_ids`
and `suffix`:

    uint64[merges]    pairs, ascending: left id << 32 | right id
    uint64[merges]    result of each pair: rank << 32 | merged id
    uint32[alphabet]  id per code point; UNKNOWN when the vocabulary holds only its UTF-8 bytes
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_layout_1(raw: dict[str, Any], content: NDArray[np.uint64]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Header and content of layout 1 -> header and tables of the present layout. Raises KeyError or ValueError."""
    merges, space = raw["merges"], raw["space"]
    pairs, results, rest = np.split(content, [merges, 2 * merges])
    alphabet = rest.view("<u4")[: raw["alphabet"]]
    lefts = pairs >> np.uint64(32)
    ids = int(lefts.max(initial=0)) + 1
    tables: dict[str, NDArray[Any]] = {
        "first": np.searchsorted(lefts, np.arange(ids + 1, dtype=np.uint64)).astype("<u4"),
        "labels": pairs.view("<u4")[::2],
        "results": results,
        "alphabet": alphabet,
    }
    model = {"kind": "byte_pairs", "byte_ids": raw["byte_ids"], "word_start": space if raw["splits_words"] else ""}
    header = {
        "tables": {name: (table.dtype.str, len(table)) for name, table in tables.items()},
        "splitting": {"kind": "spaces", "added": raw["added"], "space": space},
        "model": model,
        "suffix": raw["suffix"],
    }
    return header, tables
