"""English sentences and texts of chosen lengths, from the language reference that every Python has with it."""

from __future__ import annotations

import random
import re
from pydoc_data.topics import topics

_SENTENCE = re.compile(r"[A-Z][^.!?]{15,300}[.!?](?=\s)")


def sentences() -> list[str]:
    """Some thousand sentences, each once, in an order that never changes with one Python."""
    text = "\n\n".join(topics[name] for name in sorted(topics))
    return list(dict.fromkeys(" ".join(found.split()) for found in _SENTENCE.findall(text)))


def texts(count: int, most_words: int, seed: int = 0) -> list[str]:
    """`count` texts of 1 to `most_words` words, as many short as long ones on a logarithmic scale."""
    rng, words = random.Random(seed), " ".join(sentences()).split()
    lengths = [round(most_words ** (index / (count - 1))) for index in range(count)]
    starts = [rng.randrange(len(words) - length) for length in lengths]
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]
