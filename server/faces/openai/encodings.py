"""The encoding of vectors that a request asks for: `encoding_format`, or `embedding_type` as Jina calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pybase64
from numpy.typing import NDArray

from siglip_edge.runtime.encodings import ENCODERS
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.model import Floats

BASE64 = "base64"

_UNASKED = {"float", BASE64}
"""OpenAI's clients send `base64` unasked and decode it as float32, so it says nothing beside an `embedding_type`."""


@dataclass(frozen=True)
class Encoding:
    """`words`: as the request gives them, without repetitions. `base64` among others applies to the others."""

    words: tuple[str, ...]

    @property
    def name(self) -> str | list[str]:
        """The name in the answer."""
        return self.words[0] if len(self.words) == 1 else list(self.words)

    def encode(self, vector: Floats) -> Any:
        """-> numbers or base64; an object by name where the request asks for several kinds."""
        kinds = [word for word in self.words if word != BASE64] or ["float"]
        encoded = {kind: self._written(ENCODERS[kind](vector)) for kind in kinds}
        return encoded if len(encoded) > 1 else encoded[kinds[0]]

    def _written(self, array: NDArray[Any]) -> NDArray[Any] | str:
        return pybase64.b64encode(array.tobytes()).decode() if BASE64 in self.words else array


def requested(encoding_format: str | Sequence[str] | None, embedding_type: str | Sequence[str] | None) -> Encoding:
    """The encoding that both fields together name; float32 numbers without any. Raises InvalidInput."""
    formats, types = _words(encoding_format), _words(embedding_type)
    if types and set(formats) - _UNASKED and set(formats) != set(types):
        message = f"encoding_format asks for {', '.join(formats)} and embedding_type for {', '.join(types)}; send one"
        raise InvalidInput(message, param="embedding_type")
    return Encoding(types or formats or ("float",))


def _words(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given or ()))
