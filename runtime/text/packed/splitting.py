"""A text -> its added tokens as ids, and the parts between them as strings for the model."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator

from siglip_edge.runtime.text.packed.file_layout import LibrarySplitting, SpaceSplitting

NOT_ADDED = 0
"""Id of a part that is no added token, in the tokenizer without a vocabulary."""


class SpaceSplitter:
    """Gemma's form, without importing the library."""

    def __init__(self, spec: SpaceSplitting) -> None:
        self._ids, self._space = spec.added, spec.space
        self._added = re.compile(f"({longest_of(spec.added)})")

    def __call__(self, text: str) -> Iterator[str | int]:
        for index, part in enumerate(self._added.split(text)):
            if index % 2:
                yield self._ids[part]
            elif part:
                yield part.replace(" ", self._space)


class LibrarySplitter:
    """The library's own normalizer, pre-tokenizer and added tokens: exact whatever they are, and small."""

    def __init__(self, spec: LibrarySplitting) -> None:
        import tokenizers  # noqa: PLC0415 - 3 MB that Gemma's form does not need

        self._ids = spec.added
        self._tokenizer = tokenizers.Tokenizer.from_str(spec.tokenizer)
        self._tokenizer.model._resize_cache(0)  # noqa: SLF001 - ten thousand parts; words are remembered by the caller

    def __call__(self, text: str) -> Iterator[str | int]:
        parts = self._tokenizer.encode(text, add_special_tokens=False)
        for part, index in zip(parts.tokens, parts.ids, strict=True):
            yield part if index == NOT_ADDED else self._ids[index]


def longest_of(words: Collection[str]) -> str:
    """-> a pattern that matches the longest of the words. Alternatives share their beginnings: Gemma 3 adds 6 415."""
    if not words:
        return "(?!)"
    shared = os.path.commonprefix(list(words))  # noqa: RUF071 - of strings, not of paths
    rest: dict[str, list[str]] = {}
    for word in sorted(words):
        rest.setdefault(word[len(shared) : len(shared) + 1], []).append(word[len(shared) :])
    optional = "?" if rest.pop("", None) else ""
    branches = "|".join(longest_of(group) for group in rest.values())
    return re.escape(shared) + (f"(?:{branches}){optional}" if branches else "")
