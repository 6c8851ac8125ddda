"""Pictures and texts of a data set -> embeddings in a file, so that memory does not grow with the data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from siglip_edge.cli.progress import progress
from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.geometry import decoded_size
from siglip_edge.runtime.images.patch_limit import patch_limit
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row

Floats = NDArray[np.float32]

ROWS = 8
"""Rows that are prepared and embedded together; the plan decides which of them share a run."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Look:
    """How pictures are taken."""

    max_patches: int | None
    """Most patches per picture of a NaFlex model; None: the model's own number."""
    max_pixels: int
    """Pictures of more pixels are refused."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    path: Path
    """float32, one embedding after another."""
    truncated: int = 0
    left_out: dict[int, str] = field(default_factory=dict)
    """Position of an input that could not be read -> reason."""

    def vectors(self, dimensions: int) -> Floats:
        """Map the file, (n, dimensions)."""
        return np.memmap(self.path, np.float32, "r").reshape(-1, dimensions)


def embed_pictures(model: EmbeddingModel, files: Sequence[Path], target: Path, what: str, look: Look) -> Embedded:
    """Pictures that cannot be read are left out. Raises click.ClickException when that is all of them."""
    left_out: dict[int, str] = {}

    def rows() -> Iterator[Row]:
        for position, file in enumerate(progress(files, f"{what} pictures")):
            try:
                yield picture_row(model, file, look)
            except (OSError, InvalidInput) as error:
                left_out[position] = str(error)

    with target.open("wb") as out:
        _write(model, Tower.VISION, rows(), out)
    if len(left_out) == len(files):
        raise click.ClickException(f"{files[0]}: cannot be read as a picture ({left_out[0]}), nor can any other")
    return Embedded(path=target, left_out=left_out)


def embed_texts(model: EmbeddingModel, texts: Sequence[str], target: Path, what: str) -> Embedded:
    truncated = 0

    def rows() -> Iterator[Row]:
        nonlocal truncated
        for text in progress(texts, f"{what} texts"):
            prepared = model.prepare_text(text)
            truncated += prepared.truncated
            yield prepared.row

    with target.open("wb") as out:
        _write(model, Tower.TEXT, rows(), out)
    return Embedded(path=target, truncated=truncated)


def picture_row(model: EmbeddingModel, file: Path, look: Look) -> Row:
    """Read, decode and prepare a picture as the server does. Raises OSError or InvalidInput."""
    vision, patches = model.manifest.vision, patch_limit(model.manifest, look.max_patches)
    target = partial(decoded_size, geometry=vision.geometry, max_patches=patches)
    picture = decode(file.read_bytes(), max_pixels=look.max_pixels, target=target, profiles=vision.color_profiles)
    return model.prepare_image(picture, patches)


def _write(model: EmbeddingModel, tower: Tower, rows: Iterator[Row], out: BinaryIO) -> None:
    out.writelines(model.run(tower, some).tobytes() for some in _chunks(rows))


def _chunks(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while some := list(islice(rest, ROWS)):
        yield some
