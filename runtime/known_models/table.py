"""Reads the table of known models, chooses among them, and names the command that makes a model directory of one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec

_FOLDER = Path(__file__).parent
_MB = 10**6
AT_REST_MB = 100
"""Of a server process without weights: interpreter, libraries, and buffers of one row. See docs/memory.md."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of models.toml."""


class Quality(_Entry, frozen=True, kw_only=True):
    """A published measure, and where its figures are from."""

    name: str
    about: str
    source: str
    url: str


class KnownModel(_Entry, frozen=True, kw_only=True):
    """A checkpoint on the hub."""

    id: str
    family: str
    licence: str
    dimensions: int
    parameters: int
    """Millions."""
    table: int
    """Millions of them in the table of token embeddings, which are read from disk row by row."""
    languages: str
    """`en`, `zh` or `many`: trained on many languages, which its model card lists."""
    tokens: int
    """Longest text."""
    image: int = 0
    """Side of the square in pixels; 0 without a vision tower."""
    scores: dict[str, float] = {}
    """Name of a Quality -> figure."""
    refused: str | None = None
    """Why it cannot be exported."""

    @property
    def estimated_mb(self) -> int:
        """Memory at rest in INT8 where it was not measured: a byte per parameter that is held."""
        return AT_REST_MB + self.parameters - self.table

    def speaks(self, language: str) -> bool:
        """`language`: a code such as de or zh. A model of many languages is taken to know it."""
        return self.languages in {"many", language.partition("-")[0].lower()}


class Advice(_Entry, frozen=True, kw_only=True):
    """A model for a use and a size of machine."""

    use: str
    memory: str
    """Of the whole machine."""
    languages: str
    model: str
    reason: str


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One model directory in INT8, measured by `siglip_edge.bench.shapes`. Speeds are ratios to the base model's."""

    weights: str
    """`random` or `real`: the shape is the model's in both cases."""
    files_mb: float
    memory_mb: float
    images_per_s: float | None = None
    texts_per_s: float | None = None
    images_ratio: float | None = None
    texts_ratio: float | None = None


class Measurements(msgspec.Struct, frozen=True, kw_only=True):
    """measured.json."""

    command: str
    machine: str
    cores: float = 0
    load: float = 0
    """Runnable processes of other programs when the measurement began."""
    base: str
    models: dict[str, Measured]


class _Document(_Entry, frozen=True, kw_only=True):
    quality: dict[str, Quality]
    advice: tuple[Advice, ...]
    model: tuple[KnownModel, ...]


@cache
def _document() -> _Document:
    return msgspec.convert(tomllib.loads((_FOLDER / "models.toml").read_text(encoding="utf-8")), _Document)


def known_models() -> tuple[KnownModel, ...]:
    """Every model, in the order of the table."""
    return _document().model


def qualities() -> dict[str, Quality]:
    """Key in `scores` -> its measure."""
    return _document().quality


def advice() -> tuple[Advice, ...]:
    """The recommendations."""
    return _document().advice


@cache
def measurements() -> Measurements:
    """What was measured here, of some of the models."""
    return msgspec.json.decode((_FOLDER / "measured.json").read_bytes(), type=Measurements)


def memory_mb(model: KnownModel) -> float:
    """Memory at rest in INT8: measured, else estimated."""
    measured = measurements().models.get(model.id)
    return measured.memory_mb if measured else model.estimated_mb


def choose(*, images: bool, text_only: bool, memory: int | None, language: str | None) -> Iterator[KnownModel]:
    """The models that can be exported and that fit. `memory`: bytes for one server process."""
    for model in (model for model in known_models() if model.refused is None):
        is_kind = not (images and not model.image) and not (text_only and model.image)
        is_small = memory is None or memory_mb(model) * _MB <= memory
        if is_kind and is_small and (language is None or model.speaks(language)):
            yield model


def find(name: str) -> KnownModel | None:
    """The model with this hub id, or whose id has this last part."""
    return next((model for model in known_models() if name in {model.id, model.id.partition("/")[2]}), None)


def named(name: str) -> KnownModel:
    """As `find`, for a name that the table itself uses. Raises KeyError."""
    if (model := find(name)) is None:
        raise KeyError(name)
    return model


def export_command(
    checkpoint: str, folder: Path | str = "FOLDER", name: str | None = None, *, has_images: bool = True
) -> str:
    """The command that makes a model directory of a checkpoint. `name`: the directory's, if not the checkpoint's.

    `has_images`: of a checkpoint that the table does not know.
    """
    known = find(checkpoint)
    has_images = bool(known.image) if known else has_images
    command = f"siglip-edge export {checkpoint} -o {folder}"
    if name not in {None, checkpoint.rpartition("/")[2]}:
        command += f" --name {name}"
    return f"{command} --calibration-images DIR" if has_images else command


def pull_command(repository: str, folder: Path | str, name: str) -> str:
    """The command that fetches a model directory from a hub."""
    command = f"siglip-edge pull {repository} -o {folder}"
    return command if name == repository.rpartition("/")[2] else f"{command} --name {name}"


def published(model: KnownModel) -> str:
    """The figures of quality in one line, each with the name of its measure."""
    return ", ".join(f"{qualities()[key].name} {score:.1f}" for key, score in model.scores.items())
