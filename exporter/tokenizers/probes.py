"""Texts that tell tokenizers apart: many scripts, a vocabulary's pieces cut and glued, awkward characters."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

_SCRIPTS = (
    (0x20, 0x7F),  # ASCII
    (0xA0, 0x250),  # Latin with marks
    (0x300, 0x370),  # combining marks
    (0x370, 0x530),  # Greek, Cyrillic
    (0x590, 0x780),  # Hebrew, Arabic, Syriac
    (0x900, 0xE00),  # Indic
    (0xE00, 0x1200),  # Thai, Lao, Tibetan, Georgian, Hangul letters
    (0x1200, 0x2000),  # Ethiopic to Greek extended
    (0x2000, 0x2C00),  # punctuation, joiners, arrows, mathematics, U+2581
    (0x3000, 0x3100),  # Japanese
    (0x4E00, 0xA000),  # Chinese
    (0xAC00, 0xD7A4),  # Korean
    (0xE000, 0x10000),  # private use, ligatures, full width, non-characters
    (0x1F000, 0x20000),  # emoji
    (0x20000, 0x110000),  # the other planes
)
_SURROGATES = range(0xD800, 0xE000)
_AWKWARD = (
    "\t",
    "\n",
    "\r\n",
    "  ",
    " ",
    "\0",
    "\x7f",
    "\u200b",
    "\u200d",
    "\ufeff",
    "▁",
    "▁▁",
    "é",
    "e\u0301",
    "🏳️‍🌈",
    "<0x41>",
)


def probe_texts(description: dict[str, Any], count: int, seed: int = 0) -> Iterator[str]:
    """`count` texts for a parsed tokenizer.json, the same ones for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    pieces = _pieces(description["model"])
    added = [token["content"] for token in description["added_tokens"]] or [""]
    kinds: tuple[Callable[[], str], ...] = (
        lambda: _characters(rng, [rng.choice(_SCRIPTS)]),
        lambda: _characters(rng, _SCRIPTS),
        lambda: "".join(rng.choices(pieces, k=rng.randrange(12))),
        lambda: " ".join(rng.choices(pieces, k=rng.randrange(12))).replace("▁", " "),
        lambda: "".join(piece[rng.randrange(len(piece)) :] for piece in rng.choices(pieces, k=rng.randrange(20))),
        lambda: "".join(rng.choice(rng.choice((pieces, added, _AWKWARD))) for _ in range(rng.randrange(12))),
        lambda: "".join(piece[: rng.randrange(9)] for piece in rng.choices(added, k=rng.randrange(6))),
        lambda: rng.choice(rng.choice((pieces, _AWKWARD))) * rng.randrange(40),
        lambda: "".join(rng.choices(rng.choice(pieces), k=rng.randrange(60))),
    )
    for _ in range(count):
        yield rng.choice(kinds)()


def long_texts(description: dict[str, Any], seed: int = 0) -> Iterator[str]:
    """Texts of thousands of characters: with words, and one word without an end."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    pieces = _pieces(description["model"])
    for separator in (" ", "", "\n"):
        yield separator.join(rng.choices(pieces, k=2000)).replace("▁", " ")
    yield "".join(chr(rng.randrange(0x61, 0x7B)) for _ in range(4000))
    yield "".join(rng.choices("aab", k=4000))
    yield "".join(chr(rng.randrange(0x4E00, 0x5E00)) for _ in range(4000))


def _pieces(model: dict[str, Any]) -> list[str]:
    """The vocabulary's pieces as texts have them: characters that stand for bytes are read as the bytes' text."""
    pieces = list(model["vocab"]) if isinstance(model["vocab"], dict) else [piece for piece, _ in model["vocab"]]
    if model["type"] == "WordPiece":
        pieces += [piece.removeprefix("##") for piece in pieces]
    if model["type"] == "BPE" and not model["byte_fallback"]:
        pieces += [_text_of(piece.removesuffix(model["end_of_word_suffix"] or "")) for piece in pieces]
    return list(filter(None, pieces))


def _text_of(piece: str) -> str:
    """Characters that stand for bytes -> the bytes' text."""
    return bytes(_BYTES.get(character, 0x20) for character in piece).decode(errors="ignore")


def _byte_characters() -> dict[str, int]:
    """GPT-2's alphabet: a byte that prints stands for itself, the others follow from U+0100 on."""
    printing = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printing]
    return {chr(byte): byte for byte in printing} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_characters()


def _characters(rng: random.Random, scripts: list[tuple[int, int]] | tuple[tuple[int, int], ...]) -> str:
    codes = (rng.randrange(*rng.choice(scripts)) for _ in range(rng.randrange(60)))
    return "".join(chr(code) for code in codes if code not in _SURROGATES)
