"""Image bytes -> Pillow images, within limits that hold before a pixel is expanded."""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, features

from runtime.errors import ImageTooLarge, UndecodableImage
from runtime.preprocess import Box

Image.MAX_IMAGE_PIXELS = None  # Pillow only warns at its own limit; ours is checked from the header, always

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(("AVIF",) if features.check("avif") else ()),
)
"""An explicit list: every other Pillow plugin stays out of reach of what strangers send."""

SCALING_MARGIN = 2.5
"""A scaled JPEG keeps at least this many pixels a target pixel and side.

Least cosine to the exact path on 25 photographs resized to just this margin, demo model: 0.9991 in INT8 (whose own
rounding takes as much), 0.9997 in FP16; with a margin of 2, 0.9984 and 0.9992 (`bench.scaling`). Twelve megapixels
become a row of 256 pixels in 62 ms of CPU time instead of 156; at 1/8, below the margin, it would be 48.
"""

_DATA_URI = re.compile(r"data:(image/[\w.+-]+)(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)
_SNIFFED_CHARS = 32
"""Base64 characters that hold every magic number below: 24 bytes."""


class Decoded(NamedTuple):
    """What `runtime.preprocess.pixels` takes."""

    image: Image.Image
    box: Box | None
    """None: all of it."""


@dataclass(frozen=True)
class ImageLimits:
    max_bytes: int
    """Of the file, as sent."""
    max_pixels: int
    """Width times height, as the header says."""


def is_image_magic(head: bytes) -> bool:
    """Whether the first bytes (16 or more) are those of an accepted format."""
    return (
        head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and head[6:10] == b"\0\0\0\0")  # two letters are no magic number; the reserved words are
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
    if len(text) * 3 // 4 > limits.max_bytes * 1.1:  # line breaks take a few per cent
        raise _too_many_bytes(len(text) * 3 // 4, limits)
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UndecodableImage("the image's base64 cannot be decoded") from None
    return data


def check_bytes(data: bytes, limits: ImageLimits) -> bytes:
    """The same bytes. Raises ImageTooLarge."""
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(len(data), limits)
    return data


def decode(data: bytes, limits: ImageLimits, *, target: int | None = None) -> Decoded:
    """The first frame, pixels loaded. Raises UndecodableImage or ImageTooLarge.

    `target`: the side it will be squashed to; a JPEG much larger than that is decoded at 1/2, 1/4 or 1/8 of its size.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_pixels(image, limits)
        box = None if target is None else _draft(image, math.ceil(SCALING_MARGIN * target))
        image.load()
        image.getexif()  # parsed here, where a hostile block is the image's fault
    except ImageTooLarge:
        raise
    except Exception:  # noqa: BLE001 - Pillow's plugins raise a dozen unrelated types on hostile bytes
        known = ", ".join(FORMATS)
        raise UndecodableImage(f"the image cannot be decoded: damaged, cut short, or not one of {known}") from None
    return Decoded(image, box)


def _draft(image: Image.Image, least: int) -> Box | None:
    """Have it decoded at the smallest fraction that leaves `least` pixels a side. -> the picture's box in that."""
    full = image.size
    drafted = image.draft(None, (least, least))  # only JPEG's plugin knows how
    return drafted[1] if drafted and image.size != full else None


def _check_pixels(image: Image.Image, limits: ImageLimits) -> None:
    if image.width * image.height > limits.max_pixels:
        raise ImageTooLarge(
            f"the image has {image.width} x {image.height} pixels; at most {limits.max_pixels} are accepted"
        )


def _too_many_bytes(size: int, limits: ImageLimits) -> ImageTooLarge:
    return ImageTooLarge(f"the image has {size} bytes; at most {limits.max_bytes} are accepted")
