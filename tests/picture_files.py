"""Image files made from bytes: odd notes, deep samples, directories of tags."""

import io
import struct
import zlib
from typing import Literal

import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()

TURNED = (0x0112, 3, 1, struct.pack("<H", 6))


def picture(width: int = 64, height: int = 48) -> Image.Image:
    """No two corners are alike, so that no turn goes unseen."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray(np.stack([255 * x, 255 * y, 255 * ((x - 0.3) ** 2 + y**2 < 0.1)], 2).astype(np.uint8))


def saved(image: Image.Image, kind: str, **save) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **save)
    return file.getvalue()


def tiff(*entries: tuple[int, int, int, bytes], strip: bytes = b"", order: str = "<", big: bool = False) -> bytes:
    """A TIFF of one strip: entries are (tag, type, count, value)."""
    size, head, entry = (16, "Q", "HHQ") if big else (8, "H", "HHI")
    word = "Q" if big else "I"
    inline = struct.calcsize(order + word)
    start = size + len(strip) + len(strip) % 2
    after = start + struct.calcsize(order + head) + (inline + struct.calcsize(order + entry)) * len(entries) + inline
    directory, beyond = struct.pack(order + head, len(entries)), b""
    for tag, kind, count, value in sorted(entries):
        place = struct.pack(order + word, after + len(beyond)) if len(value) > inline else value.ljust(inline, b"\0")
        beyond += value if len(value) > inline else b""
        directory += struct.pack(order + entry, tag, kind, count) + place
    letters = b"II" if order == "<" else b"MM"
    header = letters + (struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start))
    return header + strip.ljust(start - size, b"\0") + directory + bytes(inline) + beyond


def grey_tiff(
    samples: np.ndarray,
    *more: tuple[int, int, int, bytes],
    photometric: int = 1,
    order: Literal["<", ">"] = "<",
    **form,
) -> bytes:
    """A picture of one row, of the samples' own type."""
    short, long = (lambda value: struct.pack(order + "H", value)), (lambda value: struct.pack(order + "I", value))
    bits = samples.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    strip = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    given = {tag for tag, *_ in more}
    entries = [
        (256, 4, 1, long(samples.size)), (257, 4, 1, long(1)), (258, 3, 1, short(bits)), (259, 3, 1, short(1)),
        (262, 3, 1, short(photometric)), (273, 4, 1, long(16 if form.get("big") else 8)), (277, 3, 1, short(1)),
        (278, 4, 1, long(1)), (279, 4, 1, long(len(strip))), (339, 3, 1, short(kind)),
    ]  # fmt: skip
    return tiff(*[one for one in entries if one[0] not in given], *more, strip=strip, order=order, **form)


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    checked = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checked)


def with_chunk(png: bytes, *chunks: bytes) -> bytes:
    """After the header."""
    return png[:33] + b"".join(chunks) + png[33:]


def segment(marker: int, body: bytes, length: int | None = None) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2 if length is None else length) + body
