"""Labelled pictures, captioned pictures, sentence pairs or retrieval: two lists, and the pairs that belong together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from siglip_edge.cli.evaluation.tables import Table, read_lines, read_table
from siglip_edge.runtime.artifacts.manifest import Tower

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}

T = TypeVar("T", bound=Path | str)

Pair = tuple[Path | str, str, float]
"""Left, right, grade."""


class Kind(StrEnum):
    """The question that a data set asks."""

    LABELS = "labels"
    """Pictures and class names, which the model's template completes."""
    CAPTIONS = "captions"
    SENTENCES = "sentence pairs"
    """Two texts and a person's judgement of their similarity, as in the STS benchmark."""
    RETRIEVAL = "retrieval"
    """Queries and documents."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Pairs of a left and a right list."""

    kind: Kind
    left: Sequence[Path | str]
    """Pictures, first sentences or queries."""
    right: Sequence[str]
    """Labels, captions, second sentences or documents."""
    pairs: Ints
    """(n, 2): positions in `left` and `right` that belong together."""
    grades: Floats
    """(n,): the judgement of sentence pairs; how relevant a document is; else 1."""
    own_document: dict[int, int] = field(default_factory=dict)
    """Query -> the document with the query's own id, which is not searched, as in BEIR."""

    @property
    def left_tower(self) -> Tower:
        return Tower.VISION if self.kind in {Kind.LABELS, Kind.CAPTIONS} else Tower.TEXT

    @property
    def towers(self) -> tuple[Tower, ...]:
        """The towers that answer, vision first."""
        return tuple(dict.fromkeys((self.left_tower, Tower.TEXT)))

    def without(self, missing: Iterable[int]) -> Dataset:
        """The same data set without some positions of `left`."""
        kept = np.setdiff1d(np.arange(len(self.left)), np.fromiter(missing, np.int64))
        remains = np.isin(self.pairs[:, 0], kept)
        pairs = self.pairs[remains]
        pairs = np.stack([np.searchsorted(kept, pairs[:, 0]), pairs[:, 1]], axis=1)
        left = [self.left[position] for position in kept]
        return replace(self, left=left, pairs=pairs, grades=self.grades[remains])

    def __str__(self) -> str:
        names = {
            Kind.LABELS: ("pictures", "labels"),
            Kind.CAPTIONS: ("pictures", "captions"),
            Kind.RETRIEVAL: ("queries", "documents"),
        }
        if self.kind is Kind.SENTENCES:
            return f"{len(self.pairs)} sentence pairs"
        left, right = names[self.kind]
        return f"{len(self.left)} {left}, {len(self.right)} {right}"


def load_dataset(path: Path) -> Dataset:
    """Read a folder or a table; `docs/evaluate.md` lists the forms.

    Raises click.ClickException, which names the file and the row, when `path` has another form.
    """
    if path.is_file():
        return _from_table(read_table(path))
    if (path / "corpus.jsonl").is_file():
        return _from_beir(_qrels_of(path))
    if (path / "labels.csv").is_file():
        return _labels(read_table(path / "labels.csv"))
    found = [(file, spelt(file.parent.name), 1.0) for file in sorted(path.glob("*/*")) if is_picture(file)]
    if not found:
        message = f"{path}: has neither labels.csv nor a sub-folder of pictures per class, nor BEIR's corpus.jsonl"
        raise click.ClickException(message)
    return _dataset(Kind.LABELS, found)


def is_picture(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES


def spelt(label: str) -> str:
    """`red-apple` or `red_apple` -> `red apple`."""
    return label.replace("-", " ").replace("_", " ")


def _from_table(table: Table) -> Dataset:
    file, caption, label = table.find("file", "path"), table.find("caption"), table.find("label")
    first, second = table.find("sentence1", "text1"), table.find("sentence2", "text2")
    query, document, score = table.find("query", "anchor"), table.find("document", "positive"), table.find("score")
    if {"query-id", "corpus-id"} <= set(table.header):
        return _from_beir(table)
    if file and caption:
        captions = zip(table.files(file), table.texts(caption), strict=True)
        return _dataset(Kind.CAPTIONS, [(picture, text, 1.0) for picture, text in captions])
    if file and label:
        labels = zip(table.files(file), table.texts(label), strict=True)
        return _dataset(Kind.LABELS, [(picture, spelt(text), 1.0) for picture, text in labels])
    if first and second and score:
        return _sentences(table, table.texts(first), table.texts(second), table.numbers(score))
    if query and document:
        grades = table.numbers(score) if score else [1.0] * len(table.rows)
        found = zip(table.texts(query), table.texts(document), grades, strict=True)
        return _dataset(Kind.RETRIEVAL, _answerable(table, found))
    raise click.ClickException(
        f"{table.path}: needs the columns `file` and `caption`, `file` and `label`, `sentence1`, `sentence2` and "
        f"`score`, or `query` and `document`; it has {', '.join(table.header)}"
    )


def _labels(table: Table) -> Dataset:
    """The first column is the file and the second its label, whatever their names in the header."""
    if len(table.header) < 2:
        raise click.ClickException(f"{table.path}: needs two columns, file and label")
    file, label = table.header[:2]
    pairs = zip(table.files(file), table.texts(label), strict=True)
    return _dataset(Kind.LABELS, [(picture, spelt(text), 1.0) for picture, text in pairs])


def _sentences(table: Table, first: list[str], second: list[str], scores: list[float]) -> Dataset:
    """A list per column: a sentence may occur in several pairs."""
    if len(set(scores)) < 2:
        raise click.ClickException(f"{table.path}: every score is {scores[0]:g}; a correlation needs different scores")
    rows = np.arange(len(scores))
    return Dataset(
        kind=Kind.SENTENCES,
        left=first,
        right=second,
        pairs=np.stack([rows, rows], axis=1),
        grades=np.array(scores, np.float32),
    )


def _qrels_of(folder: Path) -> Table:
    """The relevance judgements of a BEIR folder: test.tsv, or the only file."""
    found = sorted((folder / "qrels").glob("*.tsv"))
    test = [file for file in found if file.stem == "test"] or found
    if len(test) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise click.ClickException(f"{folder}: needs qrels/test.tsv; it has {names}. Give one of its files as --data")
    return read_table(test[0])


def _from_beir(qrels: Table) -> Dataset:
    """queries.jsonl and corpus.jsonl stand in the folder above `qrels`. Documents are title, space, text."""
    folder = qrels.path.resolve().parents[1]
    rows = zip(qrels.texts("query-id"), qrels.texts("corpus-id"), qrels.numbers("score"), strict=True)
    judged = _answerable(qrels, rows)
    queries = {line["_id"]: line["text"] for line in read_lines(folder / "queries.jsonl", "_id", "text")}
    documents = {
        line["_id"]: f"{line.get('title') or ''} {line['text']}".strip()
        for line in read_lines(folder / "corpus.jsonl", "_id", "text")
    }
    query_ids, document_ids = list(dict.fromkeys(query for query, _, _ in judged)), list(documents)
    for identity, known, place in [
        *((query, queries, "queries.jsonl") for query in query_ids),
        *((document, documents, "corpus.jsonl") for _, document, _ in judged),
    ]:
        if identity not in known:
            raise click.ClickException(f"{qrels.path}: {identity!r} is not in {place}")
    row, column = _positions(query_ids), _positions(document_ids)
    return Dataset(
        kind=Kind.RETRIEVAL,
        left=[queries[identity] for identity in query_ids],
        right=list(documents.values()),
        pairs=np.array([(row[query], column[document]) for query, document, _ in judged], np.int64),
        grades=np.array([grade for _, _, grade in judged], np.float32),
        own_document={row[identity]: column[identity] for identity in query_ids if identity in column},
    )


def _answerable(table: Table, judged: Iterable[tuple[str, str, float]]) -> list[tuple[str, str, float]]:
    """The judgements of queries that have a relevant document, one with a score above 0."""
    judged = list(judged)
    answerable = {query for query, _, grade in judged if grade > 0}
    if not answerable:
        raise click.ClickException(f"{table.path}: no score is above 0, so no query has a relevant document")
    return [one for one in judged if one[0] in answerable]


def _dataset(kind: Kind, pairs: Sequence[Pair]) -> Dataset:
    """Each picture, query and text once, in the order of their first pair."""
    if kind in {Kind.LABELS, Kind.CAPTIONS}:
        _check_files(dict.fromkeys(Path(file) for file, _, _ in pairs))
    left, right = list(dict.fromkeys(one for one, _, _ in pairs)), list(dict.fromkeys(text for _, text, _ in pairs))
    row, column = _positions(left), _positions(right)
    graded = {(row[one], column[text]): grade for one, text, grade in pairs}
    return Dataset(
        kind=kind,
        left=left,
        right=right,
        pairs=np.array(list(graded), np.int64),
        grades=np.array(list(graded.values()), np.float32),
    )


def _positions(values: Iterable[T]) -> dict[T, int]:
    return {value: position for position, value in enumerate(values)}


def _check_files(files: Iterable[Path]) -> None:
    """Raise click.ClickException when a picture is missing, before the first one is embedded."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise click.ClickException(f"{missing[0]}: no such picture{more}")
