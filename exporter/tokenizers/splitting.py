"""What a tokenizer.json does before its model -> the part of a packed file's header that does the same."""

from __future__ import annotations

import json
from typing import Any

from siglip_edge.runtime.text.packed.file_layout import LibrarySplitting, SpaceSplitting

_AT_SPACES = {"type": "Split", "pattern": {"String": " "}}
"""Gemma's pre-tokenizer: of no effect, because the normalizer leaves no spaces."""
_DEPENDENT = ("normalized", "single_word", "lstrip", "rstrip")
_NO_VOCABULARY = {"type": "Unigram", "unk_id": 0, "vocab": [["\U0010ffff", 0.0]], "byte_fallback": False}
"""A model with which the library returns each part as one unknown token that holds the part's text: Unigram joins
unknown characters. Its only piece is the unknown one itself, so that a text which contains it is no exception."""


def pack_splitting(description: dict[str, Any]) -> SpaceSplitting | LibrarySplitting:
    """Gemma's form where it is that, because that needs no import; else the library's own objects."""
    if _is_at_spaces(description):
        added = {token["content"]: token["id"] for token in description["added_tokens"]}
        return SpaceSplitting(added=added, space=description["normalizer"]["content"])
    return _library_splitting(description)


def _is_at_spaces(description: dict[str, Any]) -> bool:
    normalizer, splitter = description["normalizer"] or {}, description["pre_tokenizer"] or _AT_SPACES
    return (
        normalizer.get("type") == "Replace"
        and normalizer["pattern"] == {"String": " "}
        and len(normalizer["content"]) == 1
        and normalizer["content"] != " "
        and all(splitter.get(key) == value for key, value in _AT_SPACES.items())
        and not any(token[flag] for token in description["added_tokens"] for flag in _DEPENDENT)
    )


def _library_splitting(description: dict[str, Any]) -> LibrarySplitting:
    from tokenizers import Tokenizer

    kept = ("version", "added_tokens", "normalizer", "pre_tokenizer")
    added = [{**token, "id": 1 + place} for place, token in enumerate(description["added_tokens"])]
    bare = {key: description.get(key) for key in kept} | {"added_tokens": added, "model": _NO_VOCABULARY}
    tokenizer = Tokenizer.from_str(json.dumps(bare))
    ids = {tokenizer.token_to_id(token["content"]): token["id"] for token in description["added_tokens"]}
    return LibrarySplitting(tokenizer=tokenizer.to_str(), added=ids)
