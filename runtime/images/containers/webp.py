"""WebP: chunks of pixels are copied; EXIF, XMP and profile are taken out."""

from __future__ import annotations

from collections.abc import Iterator

from siglip_edge.runtime.images.containers.contents import Contents, whole_profile

_DECIDE_PIXELS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
_ANIMATED_OR_ALPHA = 0x12
"""The flags of VP8X that describe pixels; the others promise chunks that are left out."""


def read(data: bytes) -> Contents:
    """Nothing is judged here: libwebp says what is wrong with the pixels."""
    kept, others = [b"WEBP"], dict[bytes, bytes]()
    for kind, body, whole in _chunks(data):
        if kind == b"VP8X" and len(body) >= 10:
            body = bytes((body[0] & _ANIMATED_OR_ALPHA,)) + body[1:]  # noqa: PLW2901
        if kind in _DECIDE_PIXELS:
            kept.append(kind + whole.to_bytes(4, "little") + body + b"\0" * (whole % 2))
        else:
            others.setdefault(kind, body)
    pixels = b"".join(kept)
    return Contents(
        pixels=b"RIFF" + len(pixels).to_bytes(4, "little") + pixels,
        exif=others.get(b"EXIF"),
        xmp=others.get(b"XMP "),
        profile=whole_profile(others.get(b"ICCP", b"")),
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """(kind, body, the length it should have)."""
    place = 12
    while place + 8 <= len(data):
        kind, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        yield kind, data[place + 8 : place + 8 + length], length
        place += 8 + length + length % 2
