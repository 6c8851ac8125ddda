"""An input as callers spell it: what `input_reader` judges, on every face that takes texts and images."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Modality = Literal["text", "image"]


class InputObject(Struct):
    """An input that says what it is; with both, their joint embedding: the normalised mean of the two."""

    text: str | None = None
    image: Annotated[str | None, Meta(description="Data URI, base64, or a URL where fetching is allowed.")] = None


Input = str | InputObject | list[int]
Inputs = str | InputObject | list[str | InputObject | int | list[int]]


class Upload(Struct, frozen=True):
    """A file of a form."""

    name: str
    data: bytes
