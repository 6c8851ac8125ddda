"""CLIP's tokenizer -> the contract of a text tower that pools at the first end token."""

from __future__ import annotations

from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.family import TO_BE_WRITTEN
from siglip_edge.runtime.artifacts.manifest import Buckets, TextTower
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS

BUCKETS = (8, 16, 24, 32, 48, 64, 77)
"""One text of B/32 in INT8 takes 6 ms in a row of 8 tokens, 8 in 16, 12 in 32, 25 in 77 (one thread, AVX512-VNNI)."""

HIGHEST = 2
"""`eos_token_id` of configurations written before transformers 4.31. It names no token: the tower pools at the highest
id of the row, which is the end token's as long as no token has a higher one."""


def load_tokenizer(source: str) -> Any:
    """A fast tokenizer of transformers. Raises ExportError when there is none."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # damaged files make transformers and tokenizers raise any type
        reason = str(error).strip().partition("\n")[0]
        raise ExportError(f"{source}: no tokenizer that can be loaded ({reason})") from error
    if not tokenizer.is_fast:
        raise ExportError(f"{source}: {type(tokenizer).__name__} has no form for the `tokenizers` library")
    return tokenizer


def tokenizer_json(tokenizer: Any) -> str:
    """Serialization of the `tokenizers` library, without padding and truncation."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    return str(backend.to_str())


def end_pooled_tower(source: str, tokenizer: Any, length: int, vocabulary: int, pooled_id: int) -> TextTower:
    """`length`, `vocabulary`: numbers of positions and of token embeddings. `pooled_id`: the tower's end token."""
    *begin, end = tokenizer("")["input_ids"] or [None]
    if end != pooled_id:
        raise ExportError(f"{source}: its tokenizer ends texts with token {end}, its tower pools token {pooled_id}")
    check_vocabulary(source, tokenizer, vocabulary)
    return TextTower(
        length=length,
        padding=buckets(length),
        pad_id=end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        prefix_ids=tuple(begin),
        suffix_ids=(end,),
        pools_first_end=True,
        tokenizer=TO_BE_WRITTEN,
        inputs=(TOKEN_EMBEDDINGS, ATTENTION_MASK),
        artifacts={},
    )


def check_vocabulary(source: str, tokenizer: Any, rows: int) -> None:
    """Raise ExportError when some token has no embedding among `rows`."""
    if (highest := max(tokenizer.get_vocab().values())) >= rows:
        raise ExportError(f"{source}: its tokenizer has token {highest}, its text tower {rows} token embeddings")


def highest_id(source: str, tokenizer: Any) -> int:
    """The end token by the rule HIGHEST. Raises ExportError when the rule would pool another token."""
    ids = tokenizer.get_vocab()
    end, highest = tokenizer.eos_token_id, max(ids.values())
    if end != highest:
        raise ExportError(
            f"{source}: its text tower pools the highest token id (eos_token_id {HIGHEST} in its config.json), and the "
            f"tokenizer has ids up to {highest} beyond the end token {end}; set eos_token_id to {end} if that is meant"
        )
    return int(highest)


def buckets(length: int) -> Buckets:
    return Buckets(lengths=(*(shorter for shorter in BUCKETS if shorter < length), length))
