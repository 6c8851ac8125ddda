"""Tables with a header (CSV, TSV) and files with a JSON object per line. Every error names the file and the row."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

csv.field_size_limit(min(sys.maxsize, 1 << 30))  # documents are longer than csv's 128 KiB


@dataclass(frozen=True)
class Table:
    path: Path
    header: list[str]
    rows: list[list[str]]

    def find(self, *names: str) -> str | None:
        """The first of `names` that is a column."""
        return next((name for name in names if name in self.header), None)

    def texts(self, name: str) -> list[str]:
        """The column's cells. Raises click.ClickException when one is missing or empty."""
        column = self.header.index(name)
        return [self._cell(number, row, column) for number, row in enumerate(self.rows, 2)]

    def files(self, name: str) -> list[Path]:
        """The column's cells as paths; a relative path begins in the table's folder."""
        return [self.path.parent / text for text in self.texts(name)]

    def numbers(self, name: str) -> list[float]:
        return [self._number(line, name, text) for line, text in enumerate(self.texts(name), 2)]

    def _cell(self, number: int, row: list[str], column: int) -> str:
        if column >= len(row):
            message = f"{self.path}: the row {','.join(row)[:80]!r} has fewer than {column + 1} columns"
            raise click.ClickException(message)
        if not row[column].strip():
            raise click.ClickException(f"{self.path}: row {number}: `{self.header[column]}` is empty")
        return row[column]

    def _number(self, line: int, name: str, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise click.ClickException(f"{self.path}: row {line}: `{name}` is {text[:40]!r}, which is no number")
        return number


def read_table(path: Path) -> Table:
    """A CSV, or a TSV by its suffix. Raises click.ClickException."""
    delimiter = "\t" if path.suffix == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets write a byte order mark
            # Strict, because a quotation mark that is not closed would swallow the rows after it in silence.
            rows = [row for row in csv.reader(file, delimiter=delimiter, strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{path}: cannot be read as a table ({error})") from error
    if len(rows) < 2:
        raise click.ClickException(f"{path}: needs a header and at least one row, each with two or more columns")
    header, *others = rows
    return Table(path, [name.strip() for name in header], others)


def read_lines(path: Path, *needed: str) -> Iterator[dict[str, str]]:
    """The JSON objects of a file, each with the fields `needed`. Raises click.ClickException."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(path, number, line, needed)
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be read ({error})") from error


def _object(path: Path, number: int, line: bytes, needed: tuple[str, ...]) -> dict[str, str]:
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"{path}: line {number} is no JSON object ({error})") from error
    for field in needed:
        if not isinstance(found.get(field), str):
            raise click.ClickException(f"{path}: line {number}: `{field}` is missing or is no text")
    return found
