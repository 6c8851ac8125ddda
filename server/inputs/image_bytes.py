"""Images as callers send them -> bytes within limits: from data URIs and base64. No image is decoded here."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from dataclasses import dataclass

from pybase64 import b64decode

from siglip_edge.runtime.errors import ImageTooLarge, UndecodableImage

_DATA_URI = re.compile(r"data:(image/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)
_SNIFFED_CHARS = 32
"""Base64 characters that hold every magic number below: 24 bytes."""


@dataclass(frozen=True)
class ImageLimits:
    max_bytes: int
    """Largest file, in bytes."""
    max_pixels: int
    """Largest width times height, by the header of the file."""


def is_image_magic(head: bytes) -> bool:
    """Whether the first bytes (16 or more) are those of an accepted format."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (
            head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"
        )  # many texts begin with BM, so the reserved zeros count too
        or (head[4:12] in (b"ftypavif", b"ftypavis"))
    )


def looks_like_base64_image(text: str) -> bool:
    """Whether `text` begins with the base64 of an image's magic number."""
    head = text[:_SNIFFED_CHARS]
    try:
        return len(head) == _SNIFFED_CHARS and is_image_magic(base64.b64decode(head, validate=True))
    except (binascii.Error, ValueError):
        return False


def from_data_uri(uri: str, limits: ImageLimits) -> bytes:
    """`data:image/...;base64,…` -> bytes. Raises UndecodableImage or ImageTooLarge."""
    match = _DATA_URI.match(uri)
    if match is None:
        raise UndecodableImage("not a base64 image data URI; it reads data:image/png;base64,…")
    return from_base64(uri[match.end() :], limits)


def from_base64(text: str, limits: ImageLimits) -> bytes:
    """Base64, line breaks allowed -> bytes. Raises UndecodableImage, or ImageTooLarge before decoding."""
    if len(text) * 3 // 4 > limits.max_bytes * 1.1:  # 10 % of room for line breaks
        raise _too_many_bytes(len(text) * 3 // 4, limits)
    # pybase64, because the decoder of Python takes a hundredth of the time of a request (docs/performance.md).
    with suppress(ValueError):
        return b64decode(text, validate=True)
    try:
        return b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise UndecodableImage(
            "the image's base64 cannot be decoded; send the whole file in the standard alphabet (+ and /), padded"
        ) from None


def check_bytes(data: bytes, limits: ImageLimits) -> bytes:
    """-> the same bytes. Raises ImageTooLarge."""
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(len(data), limits)
    return data


def _too_many_bytes(size: int, limits: ImageLimits) -> ImageTooLarge:
    return ImageTooLarge(f"the image has {size} bytes; at most {limits.max_bytes} are accepted")
