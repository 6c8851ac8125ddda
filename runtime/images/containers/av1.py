"""The size of the pictures inside an AVIF file, from the headers of the AV1 data itself.

The size that the container names is the size that a picture is shown in. A decoder allocates what the data says, and a
file of a kilobyte may say 16 384 x 16 384.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from siglip_edge.runtime.errors import UndecodableImage
from siglip_edge.runtime.images.containers.boxes import boxes, children

_SEQUENCE_HEADER = 1
_MOST_TRACKS, _MOST_UNITS = 16, 10_000
"""A picture has one or two tracks, and a unit per tile at most. A hostile file must not keep a thread busy."""


_CHUNKS = re.compile(rb"stco.{8}(.{4})|co64.{8}(.{8})", re.DOTALL)
"""The table of a track's data, and its first entry."""


class _Bits:
    """Reads numbers, most significant bit first. Raises IndexError at the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, 0

    def read(self, count: int) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._place // 8] >> (7 - self._place % 8) & 1
            self._place += 1
        return value

    def skip_exponential_golomb(self) -> None:
        zeros = 0
        while not self.read(1):
            zeros += 1
        self.read(zeros)


def largest_picture(file: bytes) -> tuple[int, int]:
    """(width, height) of the largest picture that the data of any item or track announces; (0, 0): none is announced.

    Raises UndecodableImage for a file that has more parts than a picture needs.
    """
    sizes = (size for data in _streams(file) for size in _sizes(data))
    return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def _streams(file: bytes) -> Iterator[bytes]:
    """AV1 data: every item, and the first frame of every track."""
    for start, end in boxes(file, b"meta"):
        with suppress(struct.error, IndexError):
            yield from _items(file, start + 12, end)
    for start, end in boxes(file, b"moov"):
        tracks = list(islice(_CHUNKS.finditer(file, start, end), _MOST_TRACKS + 1))
        if len(tracks) > _MOST_TRACKS:
            raise _too_many_parts()
        for track in tracks:
            yield file[int.from_bytes(track[1] or track[2]) :]


def _items(file: bytes, start: int, end: int) -> Iterator[bytes]:
    inside = {kind: (begin, finish) for kind, begin, finish in children(file, start, end)}
    if b"iloc" not in inside:
        return
    place = inside[b"iloc"][0]
    version, sizes = file[place], int.from_bytes(file[place + 4 : place + 6])
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    number = 4 if version == 2 else 2
    count, room = int.from_bytes(file[place + 6 : place + 6 + number]), 2 * len(file)
    place += 6 + number

    def take(size: int) -> int:
        nonlocal place
        place += size
        if place > inside[b"iloc"][1]:
            raise IndexError
        return int.from_bytes(file[place - size : place])

    for _ in range(count):
        take(number)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(base_size) + (inside.get(b"idat", (0, 0))[0] if method == 1 else 0)
        data = b""
        for _ in range(take(2)):
            take(index_size)
            begin, length = base + take(offset_size), take(length_size)
            data += file[begin : begin + length if length else len(file)]
            room -= min(length or len(file), len(file))
            if room < 0:
                raise _too_many_parts()
        yield data


def _sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Of every sequence header among the units of a stream."""
    place = units = 0
    while place < len(data) and data[place] < 0x80:
        if (units := units + 1) > _MOST_UNITS:
            raise _too_many_parts()
        kind, extended, sized = data[place] >> 3 & 15, data[place] >> 2 & 1, data[place] >> 1 & 1
        place += 1 + extended
        length = len(data) - place
        if sized:
            length = shift = 0
            while place < len(data) and shift < 56:
                length |= (data[place] & 127) << shift
                shift, place = shift + 7, place + 1
                if data[place - 1] < 0x80:
                    break
        if kind == _SEQUENCE_HEADER:
            with suppress(IndexError):
                yield _size(_Bits(data[place : place + length]))
        place += length


def _size(bits: _Bits) -> tuple[int, int]:
    """As chapter 5.5 of the AV1 specification orders the fields."""
    bits.read(4)
    if bits.read(1):  # a still picture with a short header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return bits.read(width_bits) + 1, bits.read(height_bits) + 1


def _skip_operating_points(bits: _Bits) -> None:
    delay = 0
    if bits.read(1):  # timing
        bits.read(64)
        if bits.read(1):
            bits.skip_exponential_golomb()
        if bits.read(1):  # the decoder's model
            delay = bits.read(5) + 1
            bits.read(42)
    delayed = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read(1)
        if delay and bits.read(1):
            bits.read(2 * delay + 1)
        if delayed and bits.read(1):
            bits.read(4)


def _too_many_parts() -> UndecodableImage:
    return UndecodableImage("the image cannot be decoded: its AVIF data has more parts than a picture needs")
