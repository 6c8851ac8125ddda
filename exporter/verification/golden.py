"""The self-test's inputs, of the user's pictures: kinds of input that other servers embed wrongly without an error."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from siglip_edge.runtime.artifacts.checksums import FileRecord, record_file
from siglip_edge.runtime.artifacts.manifest import FullLength, Geometry, Patches, TextTower, Tower
from siglip_edge.runtime.checks.selftest import GoldenRow, save_golden

TEXTS = (
    "a photo of a cat",
    "A PHOTO OF A CAT",
    "a long text that does not fit: " + "one more word and " * 40,
    "红色的苹果和一只猫",
    "¿Qué hora es, 👩‍🚀?",
)

_LONG = "A long text of many sentences, as people paste it. " * 80
"""Some 900 tokens: several blocks of attention where a tower computes in blocks, and the last bucket of most others."""

_ORIENTATION = 0x0112
_ROTATED_RIGHT = 6
_SIDE = 96
"""Pixels: small files; the towers see them in their own size anyway."""
_STRIPS = ((160, 10), (3, 120), (600, 2), (2, 600))


def golden_texts(tower: TextTower) -> tuple[str, ...]:
    """TEXTS, and a longer one where rows get longer than those."""
    return TEXTS if isinstance(tower.padding, FullLength) else (*TEXTS, _LONG)


def golden_images(picture: Path, geometry: Geometry) -> list[bytes]:
    """One picture as PNG files: wide, tall, rotated by EXIF only, and with an alpha gradient.

    Where the aspect ratio is kept, strips too: of few rows, and of a single row and a single column of patches.
    """
    with Image.open(picture) as opened:
        square = opened.convert("RGB").resize((_SIDE, _SIDE))
    exif = Image.Exif()
    exif[_ORIENTATION] = _ROTATED_RIGHT
    transparent = square.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(square.size))
    wide, tall = square.resize((_SIDE, _SIDE // 3)), square.resize((_SIDE // 3, _SIDE))
    strips = [square.resize(size) for size in _STRIPS] if isinstance(geometry, Patches) else []
    return [_png(wide), _png(tall), _png(wide, exif), _png(transparent), *map(_png, strips)]


def write_golden(
    directory: Path, texts: Sequence[str], images: Sequence[bytes], embeddings: Mapping[Tower, np.ndarray]
) -> FileRecord:
    """Store the inputs with their FP32 embeddings, (n, d) unit rows per tower."""
    stored = {tower: [row.astype("<f4").tobytes() for row in rows] for tower, rows in embeddings.items()}
    of_texts, of_images = stored.get(Tower.TEXT, []), stored.get(Tower.VISION, [])
    rows = [GoldenRow(text=text, embedding=row) for text, row in zip(texts, of_texts, strict=True)]
    rows += [GoldenRow(png=png, embedding=row) for png, row in zip(images, of_images, strict=True)]
    path = directory / "golden.msgpack"
    save_golden(path, rows)
    return record_file(directory, path)


def _png(image: Image.Image, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **({"exif": exif} if exif else {}))
    return buffer.getvalue()
