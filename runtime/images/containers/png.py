"""PNG: header, palette and image data are copied; transparency, EXIF, XMP and profile are taken out."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from siglip_edge.runtime.errors import UndecodableImage, UnsupportedInput
from siglip_edge.runtime.images.containers.contents import MOST_PROFILE_BYTES, Contents, whole_profile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DECIDE_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_GREY, _COLOR, _PALETTE = 0, 2, 3
_XMP_KEY = b"XML:com.adobe.xmp\0\0\0"
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


@dataclass
class _Found:
    kept: list[bytes | memoryview] = field(default_factory=lambda: [_SIGNATURE])
    others: dict[bytes, bytes] = field(default_factory=dict)
    """The first chunk of each kind that is not damaged."""


def read(data: bytes) -> Contents:
    """An APNG is its default picture, which every frame after the first is left out of.

    Raises UndecodableImage without a header, and UnsupportedInput for Apple's private form.
    """
    found = _found(memoryview(data))
    header = bytes(found.kept[1][8:21]) if len(found.kept) > 1 else b""
    if len(header) < 13:
        raise UndecodableImage("the image cannot be decoded: a PNG without its header")
    others = found.others
    return Contents(
        pixels=b"".join([*found.kept, _END]),
        exif=others.get(b"eXIf"),
        xmp=others[b"iTXt"].removeprefix(_XMP_KEY) if b"iTXt" in others else None,
        profile=_profile(others.get(b"iCCP", b"")),
        transparency=_transparency(others.get(b"tRNS"), depth=header[8], color=header[9]),
    )


def _found(data: memoryview) -> _Found:
    found = _Found()
    for kind, chunk, body in _chunks(data):
        if kind == b"CgBI":
            raise UnsupportedInput("this variant of PNG is not supported: Apple's private one, from inside an app")
        if kind in _DECIDE_PIXELS:
            if kind == b"IEND":
                break
            found.kept.append(chunk)
        elif _is_wanted(kind, body) and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:]):
            found.others.setdefault(kind, bytes(body))
    return found


def _is_wanted(kind: bytes, body: memoryview) -> bool:
    return kind in {b"tRNS", b"iCCP", b"eXIf"} or (kind == b"iTXt" and body[: len(_XMP_KEY)] == _XMP_KEY)


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """(kind, the whole chunk, its body) until the file ends, or has something that is no chunk.

    The last chunk of image data may be cut short: its beginning becomes a whole chunk, and the decoder says whether
    that is enough.
    """
    place = len(_SIGNATURE)
    while place + 8 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4]), bytes(data[place + 4 : place + 8])
        end = place + 12 + length
        if end > len(data) and kind == b"IDAT":
            rest = data[place + 8 :]
            yield kind, memoryview(len(rest).to_bytes(4) + kind + bytes(rest) + bytes(4)), rest
        if not kind.isalpha() or end > len(data):
            return
        yield kind, data[place:end], data[place + 8 : end - 4]
        place = end


def _profile(body: bytes) -> bytes | None:
    """`name, 0, method 0, zlib stream` -> the profile; None where it is damaged or too large."""
    _, found, packed = body.partition(b"\0")
    if not found or packed[:1] != b"\0":
        return None
    try:
        return whole_profile(zlib.decompressobj().decompress(packed[1:], MOST_PROFILE_BYTES + 1))
    except zlib.error:
        return None


def _transparency(body: bytes | None, *, depth: int, color: int) -> bytes | int | tuple[int, int, int] | None:
    """In the scale of the decoded samples: Pillow spreads 2 and 4 bits over 8, and keeps the upper 8 of color's 16."""
    if not body:
        return None
    if color == _PALETTE:
        return body[: 1 << depth]
    if color == _GREY and len(body) >= 2:
        sample = int.from_bytes(body[:2])
        return sample if depth == 16 else (sample & ((1 << depth) - 1)) * (255 // ((1 << depth) - 1))
    if color == _COLOR and len(body) >= 6:
        red, green, blue = (int.from_bytes(body[at : at + 2]) for at in (0, 2, 4))
        return (red >> 8, green >> 8, blue >> 8) if depth == 16 else (red & 255, green & 255, blue & 255)
    return None
