"""Types of the inputs in a request, before `input_reader` classifies them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Modality = Literal["text", "image"]


class InputObject(Struct):
    """An input of a stated kind. Text and image together give their joint embedding: the normalised mean of the two."""

    text: str | None = None
    image: Annotated[str | None, Meta(description="Data URI, base64, or a URL where fetching is allowed.")] = None


Input = str | InputObject | list[int]
Inputs = str | InputObject | list[str | InputObject | int | list[int]]


class Upload(Struct, frozen=True):
    """A file of a form."""

    name: str
    data: bytes
