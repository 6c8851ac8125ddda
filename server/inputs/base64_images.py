"""Base64 and data URIs -> the bytes of image files, within limits. No image is decoded here."""

from __future__ import annotations

import base64
import re
from contextlib import suppress
from urllib.parse import unquote_to_bytes

from pybase64 import b64decode

from siglip_edge.runtime.errors import UndecodableImage
from siglip_edge.server.inputs.image_bytes import ImageLimits, check_bytes, is_image_magic, too_many_bytes

_SNIFFED_CHARS = 64
"""Characters that hold the base64 of every magic number, line ends included."""
_SNIFFED = re.compile(r"[A-Za-z0-9+/]*")
_URL_SAFE = str.maketrans("-_", "+/")

_OTHER_FORMATS = (
    *(b"II+\0", b"MM\0+"),  # BigTIFF
    *(b"\0\0\0\x0cjP  ", b"\0\0\0\x0cJXL ", b"8BPS\0\1", b"\0\0\1\0\1\0", b"qoif", b"<svg"),
)
"""Magic numbers of image formats that may not be accepted: their base64 is no text either."""


def looks_like_base64_image(text: str) -> bool:
    """Whether `text` begins with the base64 of an image's magic number, in the standard or the URL-safe alphabet."""
    head = "".join(text[:_SNIFFED_CHARS].split()).translate(_URL_SAFE)
    known = _SNIFFED.match(head)
    digits = known[0] if known else ""
    data = base64.b64decode(_padded(digits[:-1] if len(digits) % 4 == 1 else digits))
    is_media_container = data[:3] == b"\0\0\0" and data[4:8] == b"ftyp"  # HEIC, AVIF and their many brands
    return is_media_container or data.startswith(_OTHER_FORMATS) or is_image_magic(data)


def from_data_uri(uri: str, limits: ImageLimits) -> bytes:
    """`data:…,…` -> bytes, whatever its media type says. Raises UndecodableImage or ImageTooLarge."""
    header, comma, payload = uri.partition(",")
    if not comma:
        raise UndecodableImage("the data URI is cut short; it reads data:image/png;base64,…")
    if "svg" in header.lower():
        raise UndecodableImage("SVG is not read: send the picture as PNG")
    if "base64" not in header.lower():
        return check_bytes(unquote_to_bytes(payload), limits)
    return from_base64(payload if "%" not in payload else unquote_to_bytes(payload).decode("latin-1"), limits)


def from_base64(text: str, limits: ImageLimits) -> bytes:
    """Base64 in either alphabet, padded or not, in one line or several -> bytes.

    Raises UndecodableImage, or ImageTooLarge before decoding.
    """
    if len(text) * 3 // 4 > limits.max_bytes * 1.1:  # 10 % of room for line ends
        raise too_many_bytes(len(text) * 3 // 4, limits)
    # pybase64, because the decoder of Python takes a hundredth of the time of a request (docs/performance.md).
    with suppress(ValueError):
        return b64decode(text, validate=True)
    with suppress(ValueError):
        return b64decode(_standard(text), validate=True)
    raise UndecodableImage("the image's base64 cannot be decoded; send the base64 of the whole file")


def _standard(text: str) -> str:
    """Standard alphabet, one line, padded. Raises UndecodableImage."""
    return _padded(_in_one_line(text).rstrip("=").replace("-", "+").replace("_", "/"))


def _padded(digits: str) -> str:
    return digits + "=" * (-len(digits) % 4)


def _in_one_line(text: str) -> str:
    """Raises UndecodableImage for blanks that do not end lines of equal length: a form may have made them of `+`."""
    lines = text.split()
    if not lines:
        return ""
    first, last = lines[0], lines[-1]
    if len(lines) > 1 and (
        len(first) % 4 or len(last) > len(first) or any(len(line) != len(first) for line in lines[:-1])
    ):
        raise UndecodableImage("the image's base64 has blanks inside: was + sent in a form or URL without escaping it?")
    return "".join(lines)
