"""Types of the inputs in a request, before `input_reader` classifies them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from siglip_edge.server.http.json import ITEMWISE

Modality = Literal["text", "image"]

PartType = Literal["text", "image", "image_url", "image_base64", "input_text", "input_image"]
"""Words of OpenAI's chat API, of its Responses API (`input_…`), and `image`."""


class ImageUrl(Struct, omit_defaults=True, forbid_unknown_fields=True):
    url: str
    detail: Annotated[str | None, Meta(description="OpenAI's; every image is embedded at the model's size.")] = None


class ContentPart(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A text or an image."""

    type: Annotated[PartType | None, Meta(description="Must fit the other field.")] = None
    text: Annotated[str | None, Meta(description="Always a text, whatever it looks like.")] = None
    image: Annotated[str | None, Meta(description="Data URI, base64, or a URL where fetching is allowed.")] = None
    image_url: Annotated[str | ImageUrl | None, Meta(description="A data URI, or a URL as in `image`.")] = None
    image_base64: str | None = None
    detail: Annotated[str | None, Meta(description="OpenAI's, of `input_image`; as in `image_url`.")] = None


Content = Annotated[str | list[str | ContentPart], Meta(description="One vector for all parts: their normalised mean.")]


class InputObject(ContentPart, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An input of a stated kind. Text and image together give their joint embedding: the normalised mean of the two."""

    content: Content | None = None


class Message(Struct, forbid_unknown_fields=True):
    """A message of OpenAI's chat API."""

    role: Annotated[str, Meta(description="`user`; other roles are refused.")]
    content: Content


Input = str | InputObject | list[int]
Inputs = Annotated[str | InputObject | list[str | InputObject | int | list[int]], ITEMWISE]
Messages = Annotated[list[Message], ITEMWISE]
