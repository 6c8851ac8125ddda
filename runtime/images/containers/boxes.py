"""The boxes of ISO media files, of which HEIF and AVIF are made."""

from __future__ import annotations

from collections.abc import Iterator


def boxes(file: bytes, wanted: bytes) -> Iterator[tuple[int, int]]:
    """(start, end) of every outermost box of a kind, its head included."""
    for kind, body, end in children(file, 0, len(file)):
        if kind == wanted:
            yield body - 8, end


def children(file: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of the body, end) of the boxes between two places."""
    place = start
    while place + 8 <= end:
        length, kind, head = int.from_bytes(file[place : place + 4]), file[place + 4 : place + 8], 8
        if length == 1:
            length, head = int.from_bytes(file[place + 8 : place + 16]), 16
        finish = min(place + length, end) if length >= head else end
        yield kind, place + head, finish
        place = finish
