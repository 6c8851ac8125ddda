"""TIFF and BigTIFF: the first directory is written again with the tags that decide the pixels, as plain TIFF.

Strips stay where they are. EXIF, XMP, further pages and thousands of private tags are never parsed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np

from siglip_edge.runtime.errors import UndecodableImage, UnsupportedInput
from siglip_edge.runtime.images.containers.contents import Contents, SampleRange, whole_profile
from siglip_edge.runtime.images.orientation import TURNS, UPRIGHT

_SIZES = MappingProxyType({
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
})  # fmt: skip
"""Type -> bytes of a value."""
_NUMBERS = MappingProxyType({
    1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I", 16: "Q", 17: "q", 18: "Q",
})  # fmt: skip
_LONG, _LONG8 = 4, frozenset({16, 18})

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _MIN, _MAX, _FORMAT = 274, 277, 280, 281, 339
_SMIN, _SMAX, _PROFILE = 340, 341, 34675
_DECIDE_PIXELS = frozenset({
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266),
    *(273, _SAMPLES, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, _FORMAT),
    *(347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
})  # fmt: skip
_WHITE_IS_ZERO = 0
_USUAL_COMPRESSIONS = frozenset({1, 2, 3, 4, 5, 7, 8, 32773, 32946})
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    values: bytes


def read(data: bytes) -> Contents:
    """Raises UndecodableImage for a directory that cannot be read, UnsupportedInput beyond 4 GB."""
    try:
        order, entries = _directory(data)
    except struct.error:
        raise UndecodableImage("the image cannot be decoded: its TIFF directory is damaged or cut short") from None
    kept = {tag: _narrowed(order, entry) for tag, entry in entries.items() if tag in _DECIDE_PIXELS}
    orientation = _first(order, entries.get(_ORIENTATION), UPRIGHT)
    profile = entries.get(_PROFILE)
    return Contents(
        pixels=_written(data, order, kept),
        exif=_orientation_block(int(orientation)) if orientation in TURNS else None,
        profile=whole_profile(profile.values) if profile else None,
        samples=_sample_range(order, entries),
        signed=_first(order, entries.get(_FORMAT), _UNSIGNED) == _SIGNED,
        is_rare=_first(order, entries.get(_COMPRESSION), 1) not in _USUAL_COMPRESSIONS,
    )


def _directory(data: bytes) -> tuple[str, dict[int, _Entry]]:
    """-> byte order, the entries of the first directory. The first of two equal tags counts."""
    order = "<" if data[:2] == b"II" else ">"
    (magic,) = struct.unpack_from(order + "H", data, 2)
    big = magic == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    width, entries = (20, "HHQ") if big else (12, "HHI")
    first, inline = start + (8 if big else 2), width - struct.calcsize(order + entries)
    room, found = len(data), dict[int, _Entry]()
    for place in range(first, min(first + width * count, len(data) - width + 1), width):
        tag, kind, values = struct.unpack_from(order + entries, data, place)
        length = values * _SIZES.get(kind, 0)
        if tag in found or not length:
            continue
        where = place + width - inline
        if length > inline:
            (where,) = struct.unpack_from(order + ("Q" if big else "I"), data, where)
            room -= length  # tags that name the same bytes again and again must not multiply them
        if room >= 0 and where + length <= len(data) and (tag in _DECIDE_PIXELS or tag in _ASKED):
            found[tag] = _Entry(kind, values, data[where : where + length])
    return order, found


_ASKED = frozenset({_ORIENTATION, _MIN, _MAX, _SMIN, _SMAX, _PROFILE})


def _narrowed(order: str, entry: _Entry) -> _Entry:
    """Offsets of eight bytes as four: a file that fits into a request has no others."""
    if entry.kind not in _LONG8:
        return entry
    wide = np.frombuffer(entry.values, order + "u8")
    if wide.size and wide.max() > 0xFFFFFFFF:
        raise UndecodableImage("the image cannot be decoded: its TIFF directory points outside the file")
    return _Entry(_LONG, entry.count, wide.astype(order + "u4").tobytes())


def _written(data: bytes, order: str, entries: dict[int, _Entry]) -> bytes:
    """The file with a header of plain TIFF, and the entries as its only directory, at its end."""
    start = len(data) + len(data) % 2
    after = start + 2 + 12 * len(entries) + 4
    if after > 0xFFFFFFFF:
        raise UnsupportedInput("this variant of TIFF is not supported: it is larger than 4 GB")
    directory, beyond = [struct.pack(order + "H", len(entries))], b""
    for tag, entry in sorted(entries.items()):
        inline = entry.values.ljust(4, b"\0")
        if len(entry.values) > 4:
            inline = struct.pack(order + "I", after + len(beyond))
            beyond += entry.values + b"\0" * (len(entry.values) % 2)
        directory.append(struct.pack(order + "HHI", tag, entry.kind, entry.count) + inline)
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return b"".join([header, memoryview(data)[8:], b"\0" * (len(data) % 2), *directory, bytes(4), beyond])


def _sample_range(order: str, entries: dict[int, _Entry]) -> SampleRange | None:
    """Of unsigned integers of up to 16 bits: every bit counts. Of others: as the file says, else unknown."""
    bits = int(_first(order, entries.get(_BITS), 1))
    kind = _first(order, entries.get(_FORMAT), _UNSIGNED)
    low = _first(order, entries.get(_SMIN) or entries.get(_MIN), None)
    high = _first(order, entries.get(_SMAX) or entries.get(_MAX), None)
    if bits > 8 or kind != _UNSIGNED:
        if bits <= 16 and kind == _UNSIGNED:
            return _directed(order, entries, 0, (1 << bits) - 1)
        if low is not None and high is not None and low < high:
            return _directed(order, entries, low, high)
    return None


def _directed(order: str, entries: dict[int, _Entry], low: float, high: float) -> SampleRange:
    if _first(order, entries.get(_PHOTOMETRIC), 1) == _WHITE_IS_ZERO:
        low, high = high, low
    return SampleRange(black=low, white=high)


def _first(order: str, entry: _Entry | None, default: float | None) -> float:
    if entry is None or entry.kind not in _NUMBERS:
        return cast("float", default)
    return cast("float", struct.unpack_from(order + _NUMBERS[entry.kind], entry.values)[0])


def _orientation_block(orientation: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0)
