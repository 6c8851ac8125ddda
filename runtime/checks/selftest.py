"""The self-test: embed golden rows with the sessions that will serve, and compare with the exporter's FP32 embeddings.

Golden rows are inputs of the kinds that go wrong on some machine. An execution provider that gives plausible but wrong
embeddings raises no error later, so the server looks for it at start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.checksums import verify_file
from siglip_edge.runtime.artifacts.manifest import Buckets, Manifest, Patches, Precision, TextTower, Tower
from siglip_edge.runtime.errors import BatchChangesBits, SelfTestFailed
from siglip_edge.runtime.execution.batches import batches
from siglip_edge.runtime.execution.packed_graph import machine_facts
from siglip_edge.runtime.execution.plan import CUDA, ExecutionPlan
from siglip_edge.runtime.rows import Row, TextRow
from siglip_edge.runtime.text.token_ids import TOKEN_IDS, padded

if TYPE_CHECKING:
    from PIL import Image

    from siglip_edge.runtime.images.picture import Picture

Floats = NDArray[np.float32]

FLOOR = {Precision.FP32: 0.9999, Precision.FP16: 0.999, Precision.INT8: 0.95, Precision.INT4: 0.95}
"""Smallest cosine that a golden row may have. A correct session is far above; a session with a collapsed layer or a
wrong operator fusion is far below."""


_LONGEST_TESTED = 512
"""Tokens of the longest rows that share runs in the self-test; longer ones take seconds each."""

_NOISE_SIDE = 256
"""Side of a random picture in pixels."""


class Prepares(Protocol):
    """A model that turns inputs into rows."""

    def prepare_image(self, image: Image.Image | Picture, max_patches: int | None = None) -> Row: ...
    def prepare_text(self, text: str) -> TextRow: ...


class Embeds(Prepares, Protocol):
    """The model under test."""

    manifest: Manifest
    plan: ExecutionPlan

    @property
    def towers(self) -> tuple[Tower, ...]: ...

    def embed_images(self, images: Sequence[Image.Image | Picture]) -> Floats: ...
    def embed_texts(self, texts: Sequence[str]) -> Floats: ...
    def run(self, tower: Tower, rows: Sequence[Row], *, crowded: bool = False) -> Floats: ...


class GoldenRow(msgspec.Struct, frozen=True, kw_only=True):
    """One input and its FP32 embedding, little-endian float32 of unit length."""

    embedding: bytes
    text: str | None = None
    png: bytes | None = None

    @property
    def tower(self) -> Tower:
        return Tower.VISION if self.png is not None else Tower.TEXT


def save_golden(path: Path, rows: list[GoldenRow]) -> None:
    """Write the rows as MessagePack."""
    path.write_bytes(msgspec.msgpack.encode(rows))


def load_golden(directory: Path, manifest: Manifest) -> list[GoldenRow]:
    """The manifest's golden rows; empty when it lists none. Raises ArtifactCorrupt when the file's checksum differs."""
    if manifest.golden is None:
        return []
    return msgspec.msgpack.decode(verify_file(directory, manifest.golden).read_bytes(), type=list[GoldenRow])


def check(model: Embeds, rows: list[GoldenRow]) -> dict[Tower, float]:
    """Embed the golden rows of the served towers. -> smallest cosine to FP32 per tower.

    Raises SelfTestFailed when a cosine is below FLOOR, or when the provider cannot run the rows.
    """
    tested = {row.tower for row in rows}
    try:
        cosines = {tower: _least_cosine(model, tower, rows) for tower in model.towers if tower in tested}
    except Exception as error:  # the providers' exceptions share no other base class
        raise SelfTestFailed(f"{model.manifest.name}: {model.plan.place} fails when it is run: {error}") from error
    for tower, cosine in cosines.items():
        if not cosine >= FLOOR[model.plan.precision]:
            raise SelfTestFailed(
                f"{model.manifest.name}: the {tower} tower ({model.plan.precision}, {model.plan.provider}) is wrong: "
                f"cosine {cosine:.4f} to the exporter's FP32 embeddings; choose another PRECISION or DEVICE"
            )
    return cosines


def mark_of(model: Embeds, passed: Path | None) -> Path | None:
    """The file in the directory `passed` that exists after this model passed `check_all`; None without `passed`.

    Its name depends on the manifest, the plan, the served towers, the CPU and the onnxruntime build.
    """
    facts = (msgspec.json.encode(model.manifest), model.plan, model.towers, sorted(machine_facts().items()))
    return passed and passed / hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def check_all(model: Embeds, rows: list[GoldenRow], mark: Path | None) -> None:
    """`check` with every row, then `check_bits`; the first start of a model calls this.

    Then creates the file `mark`, so that later starts skip this test, which takes longer than loading the model.
    Raises SelfTestFailed.
    """
    check(model, rows)
    check_bits(model)
    if mark:
        with suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def check_bits(model: Embeds) -> None:
    """Raise BatchChangesBits when a row's embedding has other bits in a batch that the plan allows than alone.

    Tries every batch size, on all threads and on the threads of one of several runs, with rows of several lengths and
    grids where a tower has several. Skips CUDA, which does not promise equal bits.
    """
    if model.plan.provider == CUDA:
        return
    for tower in model.towers:
        for rows in _rows_to_share(model, tower):
            _check_bits(model, tower, rows)


def _check_bits(model: Embeds, tower: Tower, rows: list[Row]) -> None:
    """`check_bits` with rows of one shape."""
    most = max(map(len, batches(rows, model.plan.batch_limit(tower))))
    if most == 1:
        return
    alone = np.concatenate([model.run(tower, [row]) for row in rows[:most]])
    for size, crowded in product(range(2, most + 1), {False, model.plan.runs_at_once > 1}):
        if not np.array_equal(model.run(tower, rows[:size], crowded=crowded), alone[:size]):
            raise BatchChangesBits(f"a batch of {size} gives the {tower} tower's rows other bits")


def _rows_to_share(model: Embeds, tower: Tower) -> list[list[Row]]:
    """Rows that may share runs, a list per shape.

    Of a text tower with buckets: the shortest, a middle, the longest. Of a vision tower with a choice of patches: the
    usual number and fewer, of which more rows share a run; wide and tall pictures in turn, whose grids differ.
    """
    count = model.plan.rows(tower) or 1
    vision = model.manifest.towers.vision
    if tower is Tower.VISION and vision is not None and isinstance(vision.geometry, Patches):
        usual = vision.geometry.default_patches
        return [_grids(model, max(1, most), count) for most in (usual, usual // 4, usual // 16)]
    spec = model.manifest.towers.text
    if tower is Tower.VISION or spec is None or not isinstance(spec.padding, Buckets):
        return [noise(model, tower, count)]
    limit = model.plan.batch_limit(tower)
    lengths = [length for length in spec.padding.lengths if length <= _LONGEST_TESTED and limit.allows(2, 2 * length)]
    chosen = dict.fromkeys((*lengths[:1], *lengths[len(lengths) // 2 :][:1], *lengths[-1:]))
    return [texts_of(model, spec, length, count) for length in chosen]


def texts_of(model: Prepares, spec: TextTower, length: int, count: int) -> list[Row]:
    """`count` different rows of the bucket `length`, some of them shorter than it."""
    texts = (f"text number {number}{' and more' * length}" for number in range(count))
    ids = (model.prepare_text(text).row.arrays[TOKEN_IDS].tolist() for text in texts)
    return [padded(given[: length - number % 3], spec).row for number, given in enumerate(ids)]


def noise(model: Prepares, tower: Tower, count: int) -> list[Row]:
    """`count` different rows; the same rows in every call."""
    if tower is Tower.TEXT:
        return [model.prepare_text(f"text number {number}").row for number in range(count)]
    return [model.prepare_image(picture) for picture in _noise_pictures(count)]


def _grids(model: Prepares, most: int, count: int) -> list[Row]:
    """`count` different rows of at most `most` patches, all of one length: wide and tall pictures in turn."""
    pictures = _noise_pictures(count)
    shapes = ((_NOISE_SIDE, _NOISE_SIDE // 2), (_NOISE_SIDE // 2, _NOISE_SIDE))
    return [model.prepare_image(picture.resize(shapes[number % 2]), most) for number, picture in enumerate(pictures)]


def _noise_pictures(count: int) -> list[Image.Image]:
    from PIL import Image  # noqa: PLC0415 - which texts alone do not need

    rng = np.random.default_rng(0)
    samples = (rng.integers(0, 256, (_NOISE_SIDE, _NOISE_SIDE, 3), np.uint8) for _ in range(count))
    return [Image.fromarray(one) for one in samples]


def one_each(rows: Iterable[GoldenRow]) -> list[GoldenRow]:
    """One row per tower."""
    return list({row.tower: row for row in rows}.values())


def _least_cosine(model: Embeds, tower: Tower, rows: list[GoldenRow]) -> float:
    mine = [row for row in rows if row.tower is tower]
    if tower is Tower.VISION:
        from siglip_edge.runtime.images.decoding import decode  # noqa: PLC0415 - with Pillow, which texts do not need

        got = model.embed_images([decode(row.png) for row in mine if row.png is not None])
    else:
        got = model.embed_texts([row.text for row in mine if row.text is not None])
    wanted = np.stack([np.frombuffer(row.embedding, "<f4") for row in mine])
    cosines = np.nan_to_num(np.sum(got * wanted, axis=1), nan=-1.0)
    return round(float(cosines.min()), 6)
