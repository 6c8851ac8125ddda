"""Reads labelled or captioned pictures from a folder or a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.picture import Picture

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Pictures, texts, and the pairs of them that belong together."""

    images: list[Path]
    texts: list[str]
    relevant: NDArray[np.bool_]
    """(images, texts): true where the text belongs to the picture."""
    labelled: bool
    """True when texts are class names, which the model's template completes; captions stay unchanged."""


def load_dataset(path: Path) -> Dataset:
    """Read `path`: a folder with a sub-folder per class or with labels.csv, or a CSV or TSV with `file` and `caption`.

    labels.csv has the columns file and label. Raises click.ClickException when `path` has another form.
    """
    if (path / "labels.csv").is_file():
        return _dataset(_labels(path / "labels.csv"), labelled=True)
    if path.is_dir():
        found = [
            (file, _spelt(file.parent.name)) for file in sorted(path.glob("*/*")) if file.suffix.lower() in SUFFIXES
        ]
        if not found:
            raise click.ClickException(f"{path}: has neither labels.csv nor a sub-folder of pictures per class")
        return _dataset(found, labelled=True)
    return _dataset(_captions(path), labelled=False)


def open_image(path: Path) -> Picture:
    """Read and decode a picture as the server does. Raises click.ClickException when that fails."""
    try:
        return decode(path.read_bytes())
    except (OSError, InvalidInput) as error:
        raise click.ClickException(f"{path}: cannot be read as a picture ({error})") from error


def _dataset(pairs: Iterable[tuple[Path, str]], *, labelled: bool) -> Dataset:
    pairs = list(pairs)
    _check_files(dict.fromkeys(file for file, _ in pairs))
    images, texts = list(dict.fromkeys(file for file, _ in pairs)), list(dict.fromkeys(text for _, text in pairs))
    row, column = {file: at for at, file in enumerate(images)}, {text: at for at, text in enumerate(texts)}
    relevant = np.zeros((len(images), len(texts)), np.bool_)
    for file, text in pairs:
        relevant[row[file], column[text]] = True
    return Dataset(images=images, texts=texts, relevant=relevant, labelled=labelled)


def _check_files(files: Iterable[Path]) -> None:
    """Raise click.ClickException when a picture is missing, before the first one is embedded."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise click.ClickException(f"{missing[0]}: no such picture{more}")


def _labels(path: Path) -> list[tuple[Path, str]]:
    """The first column is the file and the second its label, whatever their names in the header."""
    _, *rows = _rows(path, least=2)
    return [(path.parent / row[0], _spelt(row[1])) for row in rows]


def _captions(path: Path) -> list[tuple[Path, str]]:
    header, *rows = _rows(path, least=2)
    if not {"file", "caption"} <= set(header):
        raise click.ClickException(f"{path}: needs the columns `file` and `caption`; it has {', '.join(header)}")
    file, caption = header.index("file"), header.index("caption")
    _check_columns(path, rows, least=1 + max(file, caption))
    return [(path.parent / row[file], row[caption]) for row in rows]


def _rows(path: Path, *, least: int) -> list[list[str]]:
    """The rows of a table, its header first; each has `least` or more columns. Raises click.ClickException."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{path}: cannot be read as a table ({error})") from error
    if len(rows) < 2:
        raise click.ClickException(f"{path}: needs a header and at least one row, each with two or more columns")
    _check_columns(path, rows, least=least)
    return rows


def _check_columns(path: Path, rows: Iterable[list[str]], *, least: int) -> None:
    for row in rows:
        if len(row) < least:
            raise click.ClickException(f"{path}: the row {','.join(row)[:80]!r} has fewer than {least} columns")


def _spelt(label: str) -> str:
    """`red-apple` or `red_apple` -> `red apple`."""
    return label.replace("-", " ").replace("_", " ")
