"""A text encoder, opened: the transformer, what follows it, its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.clip.texts import load_tokenizer, tokenizer_json
from siglip_edge.exporter.families.family import TO_BE_WRITTEN, Checkpoint
from siglip_edge.exporter.families.text.layout import Layout, read_layout
from siglip_edge.exporter.families.text.lengths import buckets, longest_row, padding_without_position
from siglip_edge.runtime.artifacts.manifest import TextTower
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, TOKEN_EMBEDDINGS


@dataclass(frozen=True, kw_only=True)
class TextCheckpoint(Checkpoint):
    """`model` is a `reference.SentenceModel`."""

    layout: Layout
    tower: TextTower
    """Without artifacts; the tokenizer is TO_BE_WRITTEN."""
    tokenizer_json: str


def load_checkpoint(source: str) -> TextCheckpoint:
    """Open a hub id or a local directory. Raises ExportError that names what is missing or cannot be exported."""
    from siglip_edge.exporter.families.text.reference import load_model

    layout, tokenizer = read_layout(source), load_tokenizer(source)
    model = load_model(source, layout)
    _check_tokenizer(source, tokenizer, model.transformer)
    longest = longest_row(source, layout, model.transformer, tokenizer)
    serialized = tokenizer_json(tokenizer)
    return TextCheckpoint(
        source=source,
        model=model,
        layout=layout,
        tower=text_tower(source, layout, longest, serialized, tokenizer.pad_token_id or 0),
        tokenizer_json=serialized,
    )


def text_tower(source: str, layout: Layout, longest: int, serialized: str, pad_id: int) -> TextTower:
    """The contract of a text encoder whose tokenizer is `serialized`. No position that is served sees `pad_id`."""
    prefix, suffix = _around(source, serialized)
    return TextTower(
        length=longest,
        padding=buckets(longest),
        pad_id=pad_id,
        prefix_ids=prefix,
        suffix_ids=suffix,
        strip=True,
        lowercase=layout.lowercase,
        prompts=dict(layout.prompts),
        default_prompt=layout.default_prompt,
        tokenizer=TO_BE_WRITTEN,
        inputs=(TOKEN_EMBEDDINGS, ATTENTION_MASK),
        artifacts={},
    )


def _check_tokenizer(source: str, tokenizer: Any, transformer: Any) -> None:
    check_cut(source, tokenizer.truncation_side)
    known = transformer.config.vocab_size
    if (highest := max(tokenizer.get_vocab().values())) >= known:
        raise ExportError(f"{source}: its tokenizer has token {highest}, its model {known} embeddings")
    padding = padding_without_position(transformer)
    if padding not in {None, tokenizer.pad_token_id}:
        raise ExportError(
            f"{source}: its tokenizer pads with token {tokenizer.pad_token_id}, but its model leaves token {padding} "
            "out when it counts positions; their files do not belong together"
        )


def check_cut(source: str, side: str) -> None:
    if side != "right":
        raise ExportError(f"{source}: its tokenizer cuts long texts on the left; only their end can be cut")


def _around(source: str, serialized: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that the tokenizer puts before and after every text."""
    from tokenizers import Tokenizer

    backend, text = Tokenizer.from_str(serialized), "a"
    bare = backend.encode(text, add_special_tokens=False).ids
    whole = backend.encode(text).ids
    before = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), None)
    if before is None or not bare:
        raise ExportError(f"{source}: its tokenizer changes a text's own tokens where it adds its special ones")
    return tuple(whole[:before]), tuple(whole[before + len(bare) :])
