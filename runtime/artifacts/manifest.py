"""`manifest.json`, version 2: describes a model directory completely. The code assumes nothing else about it.

A model has one or two towers. Each tower says how inputs become rows, which named inputs its graph takes, and which
artifacts it has. The manifest lists the `rules` that a reader must know; a version of siglip-edge that does not know
one of the rules refuses the directory instead of serving other vectors. `artifacts.upgrade` reads version 1.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from siglip_edge.runtime.artifacts import upgrade
from siglip_edge.runtime.artifacts.checksums import FileRecord, UnsafePath, check_path
from siglip_edge.runtime.errors import ArtifactMissing, ManifestInvalid

MANIFEST = "manifest.json"
FORMAT_VERSION = 2


class Tower(StrEnum):
    VISION = "vision"
    TEXT = "text"


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of the manifest. A field that this version does not know is an error and never ignored.

    A field with its default is not written, so that older versions read the models that do not use a newer field.
    """


class Fidelity(_Part, frozen=True, kw_only=True):
    """Agreement of an artifact with FP32 on `rows` held-back calibration rows. Cosines are of the pooled outputs."""

    rows: int
    mean_cosine: float
    min_cosine: float
    retrieval_agreement: float
    """Share of rows whose nearest other row is the same as in FP32, from 0 to 1."""


class VocabularySpec(_Part, frozen=True, kw_only=True):
    """The token embedding table outside the graph; `runtime.text.vocabulary` documents the file layout."""

    file: FileRecord
    dtype: str
    """`int8` (value = scale[row] * byte), `float16` or `float32`."""
    rows: int
    width: int


class Artifact(_Part, frozen=True, kw_only=True):
    """One tower in one precision, verified by the exporter.

    The graph takes the tower's `inputs`, batch axis first; its only output is `pooled`, float32 (n, d).
    """

    graph: FileRecord
    external_data: tuple[FileRecord, ...] = ()
    vocabulary: VocabularySpec | None = None
    """Required when the graph takes `token_embeddings`."""
    fidelity: Fidelity
    details: dict[str, Any] = {}
    """How the artifact was made: quantization settings and alternatives, for people. The runtime ignores them."""

    @property
    def files(self) -> tuple[FileRecord, ...]:
        return (self.graph, *self.external_data, *((self.vocabulary.file,) if self.vocabulary else ()))


class Squash(_Part, frozen=True, kw_only=True, tag="squash", tag_field="kind"):
    """Resize the whole image to a square without keeping its aspect ratio. SigLIP."""

    size: int
    """Side of the square in pixels."""
    patch_size: int

    @property
    def most_patches(self) -> int:
        return (self.size // self.patch_size) ** 2

    fewest_patches = most_patches


class ShortestSideCrop(_Part, frozen=True, kw_only=True, tag="shortest_side_crop", tag_field="kind"):
    """Resize until the shortest side has `shortest_side` pixels, then crop the square in the centre. CLIP."""

    shortest_side: int
    size: int
    """Side of the square in pixels, at most `shortest_side`."""
    patch_size: int
    rounds_half_to_even: bool = False
    """Half a pixel of the crop's offset is rounded to even, as torchvision does; else down, as transformers does."""

    @property
    def most_patches(self) -> int:
        return (self.size // self.patch_size) ** 2

    fewest_patches = most_patches


class Patches(_Part, frozen=True, kw_only=True, tag="patches", tag_field="kind"):
    """Resize to whole patches, nearly keeping the aspect ratio. NaFlex."""

    patch_size: int
    default_patches: int
    """Most patches of an image, unless the caller asks for another number (`max_patches`)."""
    most_patches: int
    """Greatest number that a caller may ask for: the checkpoint was trained up to it, and the exporter verified it."""

    @property
    def fewest_patches(self) -> int:
        return 1


Geometry = Squash | ShortestSideCrop | Patches


class ColorProfiles(StrEnum):
    """The treatment of ICC profiles that image files embed."""

    IGNORED = "ignored"
    """As in transformers' image processors."""
    TO_SRGB = "to_srgb"
    """Pixels are converted to sRGB; a profile that cannot be used is ignored."""


class VisionTower(_Part, frozen=True, kw_only=True):
    """How an image becomes a row, and the artifacts. The graph itself normalises by `mean` and `std`."""

    geometry: Geometry
    resample: str
    """Pillow's name of the checkpoint's resize filter: nearest, lanczos, bilinear, bicubic, box or hamming."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    color_profiles: ColorProfiles = ColorProfiles.IGNORED
    inputs: tuple[str, ...] = ("pixel_values",)
    artifacts: dict[Precision, Artifact]


class FullLength(_Part, frozen=True, kw_only=True, tag="full", tag_field="kind"):
    """Every row has the tower's full length and no attention mask, as SigLIP was trained."""


class Buckets(_Part, frozen=True, kw_only=True, tag="buckets", tag_field="kind"):
    """A row has the smallest of the `lengths` that holds its tokens, and an `attention_mask`."""

    lengths: tuple[int, ...]
    """Ascending; the last one is the tower's full length."""


class PackedTokenizerSpec(_Part, frozen=True, kw_only=True):
    """The tokenizer as a memory-mapped file; `runtime.text.packed.file_layout` documents its layout."""

    file: FileRecord
    probes: int
    """Number of texts for which the exporter compared the ids with `tokenizer.json`; all were equal."""
    layout: int = 1
    """Layout of the file: 1 is Gemma's form only."""


class TextTower(_Part, frozen=True, kw_only=True):
    """How a text becomes a row, and the artifacts."""

    length: int
    """Greatest number of tokens per row, prefix and suffix included."""
    padding: FullLength | Buckets = FullLength()
    pad_id: int
    prefix_ids: tuple[int, ...] = ()
    suffix_ids: tuple[int, ...] = ()
    """Ids that the tokenizer puts before and after every text; truncation keeps them."""
    pools_first_end: bool = False
    """The tower pools at the first of its end tokens (the last of `suffix_ids`) and sees nothing behind it; a text that
    spells the token out is cut there. CLIP."""
    strip: bool = False
    """Remove white space around the text, as sentence-transformers does."""
    lowercase: bool = False
    strip_punctuation: bool = False
    """Remove ASCII punctuation and fold white space, as SigLIP's own tokenizer does."""
    prompts: dict[str, str] = {}
    """Name of a prompt -> the text put before an input that asks for it."""
    default_prompt: str | None = None
    """Name of the prompt of inputs that ask for none. None: such inputs are embedded as they are."""
    tokenizer: FileRecord
    """`tokenizer.json` of the `tokenizers` library."""
    packed_tokenizer: PackedTokenizerSpec | None = None
    """None when no packed form gives the same ids."""
    inputs: tuple[str, ...] = ("token_embeddings",)
    artifacts: dict[Precision, Artifact]

    @property
    def fewest_tokens(self) -> int:
        """Cost of the shortest row in tokens."""
        return self.padding.lengths[0] if isinstance(self.padding, Buckets) else self.length


class Towers(_Part, frozen=True, kw_only=True, omit_defaults=True):
    vision: VisionTower | None = None
    text: TextTower | None = None


class Sigmoid(_Part, frozen=True, kw_only=True, tag="sigmoid", tag_field="kind"):
    """The score of each pair is a calibrated probability. SigLIP."""

    scale: float
    """After `exp`."""
    bias: float


class Softmax(_Part, frozen=True, kw_only=True, tag="softmax", tag_field="kind"):
    """Scores compare the candidates of one query. CLIP."""

    scale: float
    """After `exp`."""


class Cosine(_Part, frozen=True, kw_only=True, tag="cosine", tag_field="kind"):
    """The score is the cosine. Text encoders."""


Scoring = Sigmoid | Softmax | Cosine
"""How cosines become scores; `runtime.scoring` has the formulas."""


class RotationSpec(_Part, frozen=True, kw_only=True, tag="rotation", tag_field="kind"):
    """A learned orthogonal basis for shorter vectors; `runtime.shortening` documents the file layout."""

    file: FileRecord
    kept: dict[int, float]
    """Length -> share of held-back calibration rows (0 to 1) whose nearest other row stays the same at that length."""


class MatryoshkaSpec(_Part, frozen=True, kw_only=True, tag="matryoshka", tag_field="kind"):
    """The first coordinates alone are a useful vector, because the checkpoint was trained for it."""

    lengths: tuple[int, ...]


class Manifest(_Part, frozen=True, kw_only=True):
    """The description of a model directory."""

    format_version: int
    rules: tuple[str, ...] = ()
    """Names of the rules that a reader must know; `save` computes them."""
    name: str
    family: str
    """The exporter's name of the family of checkpoints, for people."""
    source: str
    dimensions: int
    towers: Towers
    scoring: Scoring
    shortening: RotationSpec | MatryoshkaSpec | None = None
    zero_shot_template: str
    space_id: str
    """Equal for two model directories exactly when their vectors may be compared."""
    golden: FileRecord | None = None
    """File of the golden rows: the self-test's inputs with their FP32 embeddings."""
    toolchain: dict[str, str] = {}

    @classmethod
    def load(cls, directory: Path) -> Manifest:
        """Read and validate `directory/manifest.json`; `checksums` verifies the files. Raises ManifestInvalid."""
        path = directory / MANIFEST
        try:
            manifest = _decoded(path.read_bytes(), path)
        except FileNotFoundError:
            lacks = f"no {MANIFEST}" if directory.is_dir() else "no such directory"
            message = f"{directory}: {lacks}; `siglip-edge export CHECKPOINT -o FOLDER` makes a model directory"
            raise ManifestInvalid(message) from None
        except (OSError, msgspec.MsgspecError) as error:
            raise ManifestInvalid(f"{path}: {error}; run the export again") from error
        manifest._check(path)  # noqa: SLF001 - its own class
        return manifest

    def save(self, directory: Path) -> None:
        """Write `manifest.json` through a temporary file and a rename, so that no reader sees half of it."""
        whole = msgspec.structs.replace(self, format_version=FORMAT_VERSION, rules=rules_of(self))
        beside = directory / f".{MANIFEST}.{os.getpid()}"
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
        beside.replace(directory / MANIFEST)

    @property
    def vision(self) -> VisionTower:
        """Raises ArtifactMissing when the model has no vision tower."""
        return _present(self.towers.vision, self, Tower.VISION)

    @property
    def text(self) -> TextTower:
        """Raises ArtifactMissing when the model has no text tower."""
        return _present(self.towers.text, self, Tower.TEXT)

    def tower(self, tower: Tower) -> VisionTower | TextTower:
        """One tower's contract. Raises ArtifactMissing when the model does not have it."""
        return self.vision if tower is Tower.VISION else self.text

    @property
    def tower_names(self) -> tuple[Tower, ...]:
        """The model's towers, vision first."""
        return tuple(tower for tower in Tower if getattr(self.towers, tower) is not None)

    def artifact(self, tower: Tower, precision: Precision) -> Artifact:
        """The artifact of one tower in one precision. Raises ArtifactMissing, which names the existing precisions."""
        artifacts = self.tower(tower).artifacts
        if precision not in artifacts:
            have = ", ".join(self.precisions()) or "none"
            raise ArtifactMissing(
                f"{self.name}: no {tower} artifact in {precision} (it has {have}); export it with that precision"
            )
        return artifacts[precision]

    def precisions(self) -> tuple[Precision, ...]:
        """Precisions in which every tower has an artifact, in the order of `Precision`."""
        have = [self.tower(tower).artifacts for tower in self.tower_names]
        return tuple(p for p in Precision if all(p in artifacts for artifacts in have))

    def files(self) -> list[FileRecord]:
        """Every file that the manifest lists, each once."""
        towers = [self.tower(tower) for tower in self.tower_names]
        records = [record for tower in towers for artifact in tower.artifacts.values() for record in artifact.files]
        if self.towers.text is not None:
            packed = self.towers.text.packed_tokenizer
            records += [self.towers.text.tokenizer, *([packed.file] if packed else [])]
        if isinstance(self.shortening, RotationSpec):
            records.append(self.shortening.file)
        if self.golden is not None:
            records.append(self.golden)
        return list(dict.fromkeys(records))

    def _check(self, path: Path) -> None:
        for record in self.files():
            try:
                check_path(record)
            except UnsafePath:
                raise ManifestInvalid(f"{path}: {record.path!r} points outside the model directory") from None
        if not any(self.tower(tower).artifacts for tower in self.tower_names):
            raise ManifestInvalid(f"{path}: lists no artifacts; run the export again")
        if (text := self.towers.text) and text.default_prompt not in {None, *text.prompts}:
            raise ManifestInvalid(f"{path}: has no prompt {text.default_prompt!r}, its default; run the export again")


class _Head(msgspec.Struct):
    """The fields that are read first, from a manifest of any version."""

    format_version: int
    rules: tuple[str, ...] = ()


KNOWN_RULES = frozenset({
    *("geometry:squash", "geometry:shortest_side_crop", "geometry:patches"),
    "geometry:rounds_half_to_even",
    *("padding:full", "padding:buckets", "prompts", "default_prompt"),
    *("text:lowercase", "text:strip", "text:strip_punctuation"),
    "text:pools_first_end",
    *("color_profiles:to_srgb", "input:pixel_values", "input:patches", "input:grid"),
    *("input:token_embeddings", "input:token_ids", "input:attention_mask"),
    *("scoring:sigmoid", "scoring:softmax", "scoring:cosine"),
    *("shortening:rotation", "shortening:matryoshka", "packed_tokenizer:2"),
})  # fmt: skip
"""The rules that this version of the runtime follows."""


def rules_of(manifest: Manifest) -> tuple[str, ...]:
    """Every rule by which the manifest's vectors are made and compared, sorted."""
    towers = [manifest.tower(tower) for tower in manifest.tower_names]
    rules = {f"input:{name}" for tower in towers for name in tower.inputs}
    rules.add(f"scoring:{kind_of(manifest.scoring)}")
    if (vision := manifest.towers.vision) is not None:
        rules.add(f"geometry:{kind_of(vision.geometry)}")
        if getattr(vision.geometry, "rounds_half_to_even", False):
            rules.add("geometry:rounds_half_to_even")
        if vision.color_profiles is not ColorProfiles.IGNORED:
            rules.add(f"color_profiles:{vision.color_profiles}")
    if (text := manifest.towers.text) is not None:
        rules.add(f"padding:{kind_of(text.padding)}")
        flags = {
            "prompts": text.prompts,
            "default_prompt": text.default_prompt,
            "text:strip": text.strip,
            "text:lowercase": text.lowercase,
            "text:strip_punctuation": text.strip_punctuation,
            "text:pools_first_end": text.pools_first_end,
        }
        rules |= {rule for rule, is_used in flags.items() if is_used}
        if (packed := text.packed_tokenizer) is not None and packed.layout > 1:
            rules.add(f"packed_tokenizer:{packed.layout}")
    if manifest.shortening is not None:
        rules.add(f"shortening:{kind_of(manifest.shortening)}")
    return tuple(sorted(rules))


def kind_of(part: msgspec.Struct) -> str:
    """The word in the manifest for a part that has several kinds, as in `softmax`."""
    return str(type(part).__struct_config__.tag)


def _decoded(data: bytes, path: Path) -> Manifest:
    head = msgspec.json.decode(data, type=_Head)
    if head.format_version == 1:
        return msgspec.convert(upgrade.to_version_2(data), Manifest, str_keys=True)
    if head.format_version != FORMAT_VERSION:
        raise ManifestInvalid(
            f"{path}: format {head.format_version}, this version reads 1 and {FORMAT_VERSION}; "
            "use a newer siglip-edge or run the export again"
        )
    if unknown := sorted(set(head.rules) - KNOWN_RULES):
        raise ManifestInvalid(
            f"{path}: needs {', '.join(unknown)}, which this version does not know; use a newer siglip-edge"
        )
    manifest = msgspec.json.decode(data, type=Manifest)
    if unlisted := sorted(set(rules_of(manifest)) - KNOWN_RULES):
        raise ManifestInvalid(f"{path}: {', '.join(unlisted)} is not known to this version; run the export again")
    return manifest


T = TypeVar("T")


def _present(spec: T | None, manifest: Manifest, tower: Tower) -> T:
    if spec is None:
        raise ArtifactMissing(f"{manifest.name}: this model has no {tower} tower")
    return spec
