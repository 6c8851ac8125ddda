"""JPEG: tables and scans are copied, with the two application segments that name the colour space.

EXIF, XMP and profile are taken out, other notes are left out. A length that is wrong is passed over as libjpeg does it:
by looking for the next marker.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from siglip_edge.runtime.errors import UndecodableImage, UnsupportedInput
from siglip_edge.runtime.images.containers.contents import Contents, whole_profile

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_USUAL_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
"""Huffman coding, baseline, extended and progressive; not lossless, not arithmetic."""
_HIERARCHICAL = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE})
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_JFIF, _ADOBE = b"JFIF\0", b"Adobe"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_SCAN = re.compile(rb"\xff+\xda")


@dataclass
class _Found:
    frame: int = 0
    kept: list[bytes | memoryview] = field(default_factory=lambda: [b"\xff\xd8"])
    exif: bytes = b""
    xmp: bytes | None = None
    profile: dict[int, bytes] = field(default_factory=dict)
    """Number of the part -> part; a profile may be longer than one segment."""


def read(data: bytes) -> Contents:
    """Raises UndecodableImage without picture data, UnsupportedInput for a variant that no decoder here knows."""
    found = _Found()
    for marker, body, start in _segments(data):
        if marker == _SOS:
            found.kept.append(memoryview(data)[start:])
            return _contents(found)
        if marker in _FRAMES or marker in _HIERARCHICAL:
            _check_variant(marker, body)
            found.frame = marker
        if _APP0 <= marker <= _APP15 or marker == _COM:
            _note(found, marker, body)
        else:
            found.kept.append(_segment(marker, body))
    raise UndecodableImage("the image cannot be decoded: a JPEG without picture data")


def _segments(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """(marker, body, place of the marker) until the data ends."""
    place = 2
    while match := _MARKER.search(data, place):
        marker, place = match[1][0], match.end()
        if marker in _WITHOUT_LENGTH:
            continue
        length = int.from_bytes(data[place : place + 2])
        if length < 2 or (place + length > len(data) and marker != _SOS):
            continue
        yield marker, data[place + 2 : place + length], match.end() - 2
        place += length


def _segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2) + body


def _note(found: _Found, marker: int, body: bytes) -> None:
    if (marker == _APP0 and body.startswith(_JFIF) and len(body) >= 14) or (
        marker == _APP14 and body.startswith(_ADOBE) and len(body) >= 12
    ):
        found.kept.append(_segment(marker, body))  # the only two by which libjpeg judges the colour space
    elif marker == _APP1 and body.startswith(_EXIF):
        found.exif += body if not found.exif else body[len(_EXIF) :]
    elif marker == _APP1 and body.startswith(_XMP):
        found.xmp = body[len(_XMP) :]
    elif marker == _APP2 and body.startswith(_ICC) and len(body) > len(_ICC) + 2:
        found.profile.setdefault(body[len(_ICC)], body[len(_ICC) + 2 :])


def _contents(found: _Found) -> Contents:
    parts = b"".join(found.profile[number] for number in sorted(found.profile))
    return Contents(
        pixels=b"".join(found.kept),
        exif=found.exif or None,
        xmp=found.xmp,
        profile=whole_profile(parts),
        is_rare=found.frame not in _USUAL_FRAMES,
    )


def _check_variant(marker: int, frame: bytes) -> None:
    if len(frame) < 6:
        return  # the decoder says what is wrong with it
    bits, height = frame[0], int.from_bytes(frame[1:3])
    problem = (
        "hierarchical"
        if marker in _HIERARCHICAL
        else f"{bits} bits per sample"
        if bits != 8
        else "its height stands behind the picture"
        if not height
        else ""
    )
    if problem:
        raise UnsupportedInput(f"this variant of JPEG is not supported: {problem}; send 8-bit baseline or progressive")


def is_whole_without_end(data: bytes) -> bool:
    """Whether the file has every coefficient that its frame promises, as far as the headers of its scans tell."""
    frame, finest = b"", dict[tuple[int, int], int]()
    place = 0
    for marker, body, start in _segments(data):
        if marker in _FRAMES:
            frame = body
        if marker == _SOS:
            place = start
            break
    while match := _SCAN.search(data, place):
        place = match.end()
        for component, coefficient, bit in _refined(data[place + 2 : place + int.from_bytes(data[place : place + 2])]):
            finest[component, coefficient] = bit
    components = frame[6::3][: frame[5]] if len(frame) > 5 else b""
    return bool(components) and all(
        finest.get((component, coefficient)) == 0 for component in components for coefficient in range(64)
    )


def _refined(scan: bytes) -> Iterator[tuple[int, int, int]]:
    """(component, coefficient, its lowest bit so far) of one scan's header."""
    if not scan or len(scan) < 2 * scan[0] + 4:
        return
    first, last, bits = scan[2 * scan[0] + 1 :][:3]
    for component in scan[1 : 2 * scan[0] + 1 : 2]:
        for coefficient in range(first, min(last, 63) + 1):
            yield component, coefficient, bits & 15
