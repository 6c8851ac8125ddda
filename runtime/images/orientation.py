"""The orientation of a picture, read on its own: nothing else of EXIF or XMP is parsed, so nothing else can fail."""

from __future__ import annotations

import re
import struct
from types import MappingProxyType

from PIL import Image

UPRIGHT = 1
_TAG = 0x0112
_INTEGERS = MappingProxyType({1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"})
"""TIFF's integer types, by the codes of `struct`."""
_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])\b""")

TURNS = MappingProxyType({
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
})  # fmt: skip
"""Orientation -> the turn that makes the stored picture upright."""

SIDEWAYS = frozenset({5, 6, 7, 8})
"""Orientations that exchange width and height."""


def orientation_of(exif: bytes | None, xmp: bytes | None = None) -> int:
    """1 to 8, as the EXIF block says, else as the XMP packet says; 1 where neither can be read."""
    return _from_exif(exif or b"") or _from_xmp(xmp or b"") or UPRIGHT


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The stored picture, turned as it is to be seen."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _from_exif(block: bytes) -> int | None:
    tiff = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, entry)
            if tag == _TAG and kind in _INTEGERS:
                return _valid(*struct.unpack_from(order + _INTEGERS[kind], tiff, entry + 8))
    except struct.error:  # the block ends before the directory does
        pass
    return None


def _from_xmp(packet: bytes) -> int | None:
    match = _XMP.search(packet)
    return int(match[1]) if match else None


def _valid(value: int) -> int | None:
    return value if value == UPRIGHT or value in TURNS else None
