"""`manifest.json`: what a model directory holds and promises. The only thing exporter and server share at run time."""

from __future__ import annotations

import hashlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from siglip_edge.runtime.errors import ArtifactCorrupt, ArtifactMissing, ManifestInvalid

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_CHUNK = 1 << 20


class Tower(StrEnum):
    VISION = "vision"
    TEXT = "text"


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the model directory. `path` is relative and stays inside it."""

    path: str
    size: int
    sha256: str


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """Agreement of an artifact with FP32 over `rows` calibration rows: cosines of the pooled outputs."""

    rows: int
    mean_cosine: float
    min_cosine: float
    retrieval_agreement: float
    """Share of rows whose nearest other row is the same as in FP32."""


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """One tower in one precision: a graph with stable input and output names, verified by the exporter.

    vision: `pixel_values` uint8 (n, 3, S, S) -> `pooled` float32 (n, d)
    text:   `token_embeddings` float32 (n, L, w) -> `pooled` float32 (n, d), looked up in `vocabulary`
    """

    tower: Tower
    precision: Precision
    graph: FileRecord
    external_data: tuple[FileRecord, ...] = ()
    vocabulary: VocabularySpec | None = None
    fidelity: Fidelity
    details: dict[str, Any] = {}
    """How it was made, for people: quantization settings and what they were chosen over."""

    @property
    def files(self) -> tuple[FileRecord, ...]:
        return (self.graph, *self.external_data, *((self.vocabulary.file,) if self.vocabulary else ()))


class VocabularySpec(msgspec.Struct, frozen=True, kw_only=True):
    """The token embedding table, outside the graph; `runtime.text.vocabulary` draws the file's layout."""

    file: FileRecord
    dtype: str
    """`int8` (value = scale[row] * byte) or `float16` or `float32`."""
    rows: int
    width: int


class RotationSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The learned basis for shorter vectors; `runtime.shortening` draws the file's layout."""

    file: FileRecord
    kept: dict[int, float]
    """Length -> share of held-back calibration rows that keep their nearest other row at that length."""


class ImageSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a picture becomes pixels: squashed to a square, no crop. Normalisation is inside the graph."""

    size: int
    patch_size: int
    resample: str
    """Pillow's name of the checkpoint's own filter: nearest, lanczos, bilinear, bicubic, box, hamming."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def patches(self) -> int:
        return (self.size // self.patch_size) ** 2


class PackedTokenizerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`tokenizer` in a memory-mapped form; `runtime.text.packed_tokenizer` draws the file's layout."""

    file: FileRecord
    probes: int
    """Texts on which the exporter compared the ids of both forms; all were equal."""


class TextSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a text becomes token ids: canonicalised by the family's rule, EOS kept, padded to `length`, no mask."""

    length: int
    pad_id: int
    eos_id: int
    lowercase: bool
    strip_punctuation: bool
    tokenizer: FileRecord
    packed: PackedTokenizerSpec | None = None
    """None: this tokenizer has no packed form that gives the same ids."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A model directory described: what it embeds, how inputs are prepared, which artifacts it holds."""

    format_version: int
    name: str
    source: str
    dimensions: int
    image: ImageSpec
    text: TextSpec
    logit_scale: float
    """After `exp`."""
    logit_bias: float
    zero_shot_template: str
    space_id: str
    """Equal for two model directories exactly when their vectors may be compared."""
    artifacts: tuple[Artifact, ...]
    toolchain: dict[str, str]
    created: str
    rotation: RotationSpec | None = None
    golden: FileRecord | None = None

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read and validate `directory/manifest.json`; raises ManifestInvalid. File checksums: see `verify_file`."""
        path = directory / MANIFEST
        try:
            manifest = msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            message = f"{directory}: no {MANIFEST} here; is it a model directory made by `siglip-edge export`?"
            raise ManifestInvalid(message) from None
        except (OSError, msgspec.MsgspecError) as error:
            raise ManifestInvalid(f"{path}: {error}; run the export again") from error
        manifest._check(path)  # noqa: SLF001 - its own class
        return manifest

    def save(self, directory: Path) -> None:
        """Write `manifest.json`, beside and renamed, so that a reader never sees half of it."""
        beside = directory / f".{MANIFEST}.{os.getpid()}"
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")
        beside.replace(directory / MANIFEST)

    def artifact(self, tower: Tower, precision: Precision) -> Artifact:
        """The artifact of one tower in one precision; raises ArtifactMissing naming those there are."""
        for artifact in self.artifacts:
            if (artifact.tower, artifact.precision) == (tower, precision):
                return artifact
        have = ", ".join(self.precisions()) or "none"
        raise ArtifactMissing(
            f"{self.name}: no {tower} artifact in {precision} (it has {have}); export it with that precision"
        )

    def precisions(self) -> tuple[Precision, ...]:
        """Precisions in which every tower is present, in the order of `Precision`."""
        have = {(artifact.tower, artifact.precision) for artifact in self.artifacts}
        return tuple(p for p in Precision if all((tower, p) in have for tower in Tower))

    def _files(self) -> list[FileRecord]:
        parts = (self.rotation, self.text.packed)
        optional = [self.golden, *(part.file if part else None for part in parts)]
        artifacts = [record for artifact in self.artifacts for record in artifact.files]
        return [self.text.tokenizer, *artifacts, *(record for record in optional if record)]

    def _check(self, path: Path) -> None:
        if self.format_version != FORMAT_VERSION:
            message = f"{path}: format {self.format_version}, this version reads {FORMAT_VERSION}; run the export again"
            raise ManifestInvalid(message)
        for record in self._files():
            if Path(record.path).is_absolute() or ".." in Path(record.path).parts:
                raise ManifestInvalid(f"{path}: {record.path!r} points outside the model directory")
        if not self.artifacts:
            raise ManifestInvalid(f"{path}: lists no artifacts; run the export again")


def record_file(directory: Path, path: Path) -> FileRecord:
    """Measure one file: size in bytes and sha256."""
    return FileRecord(path=str(path.relative_to(directory)), size=path.stat().st_size, sha256=sha256_of(path))


def verify_file(directory: Path, record: FileRecord) -> Path:
    """The file's path when its size and sha256 are the recorded ones; else ArtifactCorrupt."""
    path = directory / record.path
    try:
        size = path.stat().st_size
    except OSError:
        raise ArtifactCorrupt(f"{path}: missing, though {MANIFEST} lists it; run the export again") from None
    if size != record.size:
        message = f"{path}: {size} bytes, {MANIFEST} says {record.size}; run the export again"
        raise ArtifactCorrupt(message)
    if sha256_of(path) != record.sha256:
        raise ArtifactCorrupt(f"{path}: sha256 differs from {MANIFEST}; run the export again")
    return path


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
