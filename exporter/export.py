"""The recipe, one line a step: load, trace, halve, calibrate, quantize, verify, write, rename into place."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnxruntime import __version__ as ORT_VERSION  # noqa: N812 - its wheel has three names, its module one
from PIL import Image

from siglip_edge.exporter.calibration import Progress, image_files, image_rows, text_rows
from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families.siglip.checkpoint import Checkpoint, load_checkpoint
from siglip_edge.exporter.report.measurements import measure
from siglip_edge.exporter.report.page import write_report
from siglip_edge.exporter.reproducible import one_thread_per_operation
from siglip_edge.exporter.rotation import agreement_kept, learn_directions
from siglip_edge.exporter.search_ledger import open_ledger
from siglip_edge.exporter.tokenizers.packing import NotPackable, write_packed_tokenizer
from siglip_edge.exporter.tower_export import HELD_BACK, SEARCHED, TowerExport, TowerResult, export_tower
from siglip_edge.exporter.verification import golden
from siglip_edge.runtime.artifacts.checksums import record_file
from siglip_edge.runtime.artifacts.manifest import (
    Manifest,
    Precision,
    RotationSpec,
    Sigmoid,
    Squash,
    TextTower,
    Tower,
    Towers,
    VisionTower,
)
from siglip_edge.runtime.artifacts.space_id import space_id
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.images.pixels import image_row
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row
from siglip_edge.runtime.text.token_ids import text_row
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer

Floats = NDArray[np.float32]

logger = logging.getLogger("siglip_edge")

DEFAULT_TEXTS = Path(__file__).with_name("calibration_texts.txt")
DEFAULT_TEMPLATE = "This is a photo of {}."
"""Of SigLIP's own zero-shot evaluation."""

FEWEST_IMAGES = 8
_TOOLCHAIN = ("torch", "transformers", "optimum", "onnx", "numpy", "pillow", "siglip-edge")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the user asked for."""

    source: str
    output: Path
    name: str | None = None
    precisions: Collection[Precision] = (Precision.INT8, Precision.FP16)
    ranges: str = SEARCHED
    """Or `MIN_MAX`: INT8 without the search."""
    calibration_images: Path | None = None
    calibration_texts: Path | None = None
    zero_shot_template: str = DEFAULT_TEMPLATE
    overwrite: bool = False
    report: bool = True
    """Also write report.html and report.json."""


def export(order: Order, progress: Progress = lambda items, _: items) -> Path:
    """Make a model directory, `order.output / name`, whole or not at all.

    Raises ExportError (also FidelityError) or ModelError, each one sentence; OSError when the disk is full.
    """
    target, pictures = _target(order), _calibration_pictures(order)
    checkpoint = load_checkpoint(order.source)
    with _staged(target, overwrite=order.overwrite) as directory, one_thread_per_operation():
        image, text = _image_spec(checkpoint), _write_tokenizer(checkpoint, directory, progress)
        golden_images = golden.golden_images(pictures[0])
        calibration, golden_rows = _rows(order, directory, pictures, golden_images, image=image, text=text)
        notes = target.with_name(f".{target.name}.search.json")
        with open_ledger(notes, _ledger_key(checkpoint, calibration)) as ledger:
            results = {
                tower: export_tower(
                    TowerExport(
                        checkpoint=checkpoint,
                        tower=tower,
                        calibration=calibration[tower],
                        golden=golden_rows[tower],
                        directory=directory,
                        ledger=ledger,
                        progress=progress,
                        ranges=order.ranges,
                    ),
                    order.precisions,
                )
                for tower in Tower
            }
        manifest = _write_manifest(order, checkpoint, directory, results, golden_images, image=image, text=text)
        _serve_once(directory, manifest)
        if order.report:
            _write_report(directory, manifest, calibration, results)
    return target


def _rows(
    order: Order,
    directory: Path,
    pictures: list[Path],
    golden_images: list[bytes],
    *,
    image: VisionTower,
    text: TextTower,
) -> tuple[dict[Tower, list[Row]], dict[Tower, list[Row]]]:
    """Calibration rows and golden rows of both towers, made by the serving code's own preprocessing."""
    tokenize = HuggingFaceTokenizer(directory / text.tokenizer.path)
    calibration: dict[Tower, list[Row]] = {
        Tower.VISION: image_rows(pictures, image),
        Tower.TEXT: text_rows(_calibration_texts(order), tokenize, text),
    }
    golden_rows: dict[Tower, list[Row]] = {
        Tower.VISION: [image_row(Image.open(io.BytesIO(png)), image) for png in golden_images],
        Tower.TEXT: [text_row(line, tokenize, text).row for line in golden.TEXTS],
    }
    return calibration, golden_rows


def _write_manifest(
    order: Order,
    checkpoint: Checkpoint,
    directory: Path,
    results: dict[Tower, TowerResult],
    golden_images: list[bytes],
    *,
    image: VisionTower,
    text: TextTower,
) -> Manifest:
    """Describe what was made; the rotation and the golden rows are written on the way."""
    towers = Towers(
        vision=msgspec.structs.replace(image, artifacts=results[Tower.VISION].artifacts),
        text=msgspec.structs.replace(text, artifacts=results[Tower.TEXT].artifacts),
    )
    manifest = Manifest(
        name=_target(order).name,
        family="siglip",
        source=name_of(order.source),
        dimensions=checkpoint.model.config.text_config.projection_size,
        towers=towers,
        scoring=Sigmoid(scale=checkpoint.model.logit_scale.exp().item(), bias=checkpoint.model.logit_bias.item()),
        zero_shot_template=order.zero_shot_template,
        space_id=space_id(checkpoint.weights_sha256(), towers),
        toolchain={name: importlib.metadata.version(name) for name in _TOOLCHAIN} | {"onnxruntime": ORT_VERSION},
        shortening=_write_rotation(directory, results),
        golden=golden.write_golden(directory, golden_images, {tower: one.golden for tower, one in results.items()}),
    )
    manifest.save(directory)
    return manifest


def _write_report(
    directory: Path, manifest: Manifest, calibration: dict[Tower, list[Row]], results: dict[Tower, TowerResult]
) -> None:
    """report.html and report.json, on the rows that no range was taken from."""
    held_back = {tower: calibration[tower][::HELD_BACK] for tower in Tower}
    reference = {tower: results[tower].calibration[::HELD_BACK] for tower in Tower}
    write_report(measure(directory, manifest, held_back, reference), directory)


def _ledger_key(checkpoint: Checkpoint, calibration: Mapping[Tower, Sequence[Row]]) -> str:
    """Figures hold for the same weights, the same calibration rows, this exporter, and this kind of CPU."""
    version, kernels = importlib.metadata.version("siglip-edge"), " ".join(read_cpu_budget().isa)
    digest = hashlib.sha256(f"{checkpoint.weights_sha256()} {version} {ORT_VERSION} {kernels}".encode())
    for row in (row for rows in calibration.values() for row in rows):
        for array in row.arrays.values():
            digest.update(array.tobytes())
    return digest.hexdigest()


def _image_spec(checkpoint: Checkpoint) -> VisionTower:
    return VisionTower(
        geometry=Squash(size=checkpoint.image_size, patch_size=checkpoint.patch_size),
        resample=checkpoint.resample,
        mean=checkpoint.mean,
        std=checkpoint.std,
        artifacts={},
    )


def _write_tokenizer(checkpoint: Checkpoint, directory: Path, progress: Progress) -> TextTower:
    path = directory / "tokenizer.json"
    path.write_text(checkpoint.tokenizer_json, encoding="utf-8")
    packed = None
    try:
        packed = write_packed_tokenizer(directory, path, progress)
    except NotPackable as reason:
        logger.warning("%s keeps tokenizer.json, which takes more memory: %s", checkpoint.source, reason)
    return TextTower(
        length=checkpoint.length,
        pad_id=checkpoint.pad_id,
        suffix_ids=(checkpoint.eos_id,),
        lowercase=True,
        strip_punctuation=checkpoint.strip_punctuation,
        tokenizer=record_file(directory, path),
        packed_tokenizer=packed,
        artifacts={},
    )


def _write_rotation(directory: Path, results: dict[Tower, TowerResult]) -> RotationSpec:
    """Learn the basis on the rows that calibrate, measure it on those held back."""
    learnt_on = [_without_every(HELD_BACK, result) for result in results.values()]
    directions = learn_directions(learnt_on)
    path = directory / "rotation.bin"
    path.write_bytes(directions.astype("<f4").tobytes())
    kept = agreement_kept(directions, [result.calibration[::HELD_BACK] for result in results.values()])
    return RotationSpec(file=record_file(directory, path), kept=kept)


def _without_every(step: int, result: TowerResult) -> Floats:
    return np.delete(result.calibration, slice(None, None, step), axis=0)


def _serve_once(directory: Path, manifest: Manifest) -> None:
    """Load the finished directory with the serving code, in every precision, and let it test itself."""
    rows = selftest.load_golden(directory, manifest)
    for precision in manifest.precisions():
        wishes = Wishes(device="cpu", precision=precision)
        selftest.check(EmbeddingModel.load(directory, plan([CPU], read_cpu_budget(), manifest, wishes)), rows)


def _target(order: Order) -> Path:
    """The model directory to be: directly inside `order.output`."""
    name = order.name or name_of(order.source)
    if Path(name).name != name or name == "..":
        raise ExportError(f"{name!r} is not a name for a directory; --name takes a name, --output takes the folder")
    return order.output / name


def name_of(source: str) -> str:
    """The last part of a hub id or of a local directory's path, also where that is written as `.`."""
    return Path(source).resolve().name if Path(source).is_dir() else Path(source).name


def _calibration_pictures(order: Order) -> list[Path]:
    images = order.calibration_images or _shipped(order.source)
    if images is None:
        raise ExportError(
            f"{order.source}: no calibration images. Give a folder of a hundred or more pictures like those you will "
            "serve: --calibration-images DIR (every artifact is verified on them, INT8 takes its ranges from them)"
        )
    if not images.is_dir():
        raise ExportError(f"{images}: not a folder; --calibration-images takes a folder of pictures")
    pictures = image_files(images)
    if len(pictures) < FEWEST_IMAGES:
        raise ExportError(f"{images}: {len(pictures)} images; calibration needs at least {FEWEST_IMAGES}")
    return pictures


def _calibration_texts(order: Order) -> Path:
    shipped = _shipped(order.source)
    texts = shipped / "texts.txt" if shipped else DEFAULT_TEXTS
    return order.calibration_texts or (texts if texts.exists() else DEFAULT_TEXTS)


def _shipped(source: str) -> Path | None:
    """The calibration set of a local checkpoint: pictures and `texts.txt` in `calibration/`, inside it or beside it."""
    candidates = (Path(source, "calibration"), Path(source).absolute().parent / "calibration")
    return next((path for path in candidates if path.is_dir()), None)


@contextmanager
def _staged(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A directory beside `target` that takes its place when the block ends well, and vanishes otherwise."""
    if target.exists() and not overwrite:
        raise ExportError(f"{target}: exists already; remove it, choose another --name, or pass --overwrite")
    beside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    beside.mkdir(parents=True)
    try:
        yield beside
        if target.exists():
            old = target.with_name(f".{target.name}.{os.getpid()}.old")
            target.rename(old)
            beside.rename(target)
            shutil.rmtree(old)
        else:
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
