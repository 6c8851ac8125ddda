"""The recipe: open, prepare rows, export each tower, describe, serve once, rename into place."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from onnxruntime import __version__ as ORT_VERSION  # noqa: N812 - its wheel has three names, its module one

from siglip_edge.exporter.calibration import Progress, image_files, image_rows, read_texts, text_rows
from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.families import family_of
from siglip_edge.exporter.families.family import Checkpoint, Contract, Family
from siglip_edge.exporter.report.measurements import measure
from siglip_edge.exporter.report.page import write_report
from siglip_edge.exporter.reproducible import one_thread_per_operation
from siglip_edge.exporter.rotation import agreement_kept, learn_directions
from siglip_edge.exporter.search_ledger import open_ledger
from siglip_edge.exporter.tokenizers.not_packable import NotPackable
from siglip_edge.exporter.tokenizers.packing import write_packed_tokenizer
from siglip_edge.exporter.tower_export import HELD_BACK, SEARCHED, TowerExport, TowerResult, export_tower
from siglip_edge.exporter.verification import golden
from siglip_edge.runtime.artifacts.checksums import FileRecord, record_file
from siglip_edge.runtime.artifacts.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    Manifest,
    Precision,
    RotationSpec,
    Tower,
    Towers,
)
from siglip_edge.runtime.artifacts.placement import put_in_place
from siglip_edge.runtime.artifacts.space_id import space_id
from siglip_edge.runtime.checks import selftest
from siglip_edge.runtime.execution.plan import CPU, Wishes, plan
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.pixels import image_row
from siglip_edge.runtime.machine.cpu import read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row
from siglip_edge.runtime.text.token_ids import text_row
from siglip_edge.runtime.text.tokenizer import HuggingFaceTokenizer

Floats = NDArray[np.float32]

logger = logging.getLogger("siglip_edge")

DEFAULT_TEXTS = Path(__file__).with_name("calibration_texts.txt")

FEWEST_IMAGES = 8
_TOOLCHAIN = ("torch", "transformers", "optimum", "onnx", "numpy", "pillow", "siglip-edge")


@dataclass(frozen=True, kw_only=True)
class Order:
    """The user's wishes."""

    source: str
    output: Path
    name: str | None = None
    precisions: Collection[Precision] = (Precision.INT8, Precision.FP16)
    ranges: str = SEARCHED
    """Or `MIN_MAX`: INT8 without the search."""
    calibration_images: Path | None = None
    calibration_texts: Path | None = None
    zero_shot_template: str | None = None
    """None: the family's."""
    from_onnx: bool = False
    """Read the ONNX graph that the checkpoint has beside its weights."""
    overwrite: bool = False
    report: bool = True
    """Also write report.html and report.json."""


def export(order: Order, progress: Progress = lambda items, _: items) -> Path:
    """Make a model directory, `order.output / name`, whole or not at all.

    Raises ExportError (also FidelityError) or ModelError, each one sentence; OSError when the disk is full.
    """
    target, family = _target(order), family_of(order.source, from_onnx=order.from_onnx)
    texts = read_texts(_calibration_texts(order))  # read before the weights, which may take minutes
    with one_thread_per_operation(), _staged(target, overwrite=order.overwrite) as directory:
        checkpoint = family.open(order.source)
        contract = family.contract(checkpoint)
        if order.calibration_images and contract.towers.vision is None:
            logger.warning("%s has no vision tower, so its export uses no calibration images", order.source)
        inputs = _inputs(order, contract.towers, texts)
        towers = _with_tokenizer(contract, directory, order.source, progress)
        rows = _rows(inputs, towers, directory)
        work = partial(
            TowerExport,
            family=family,
            checkpoint=checkpoint,
            directory=directory,
            progress=progress,
            ranges=order.ranges,
        )
        with open_ledger(target.with_name(f".{target.name}.search.json"), _ledger_key(checkpoint, rows)) as ledger:
            results = {
                tower: export_tower(
                    work(tower=tower, calibration=of.calibration, golden=of.golden, ledger=ledger), order.precisions
                )
                for tower, of in rows.items()
            }
        manifest = replace(
            _described(order, family, checkpoint, contract, towers),
            towers=_with_artifacts(towers, results),
            shortening=contract.shortening or _write_rotation(directory, results),
            golden=_write_golden(directory, inputs, results),
        )
        manifest.save(directory)
        _serve_once(directory, manifest)
        if order.report:
            _write_report(directory, manifest, rows, results)
    return target


def _described(
    order: Order, family: Family[Any], checkpoint: Checkpoint, contract: Contract, towers: Towers
) -> Manifest:
    """The manifest before anything is exported. `towers`: with their tokenizer's files, which are part of the space."""
    return Manifest(
        format_version=FORMAT_VERSION,
        name=_target(order).name,
        family=family.name,
        source=_source_of(order.source),
        dimensions=contract.dimensions,
        towers=towers,
        scoring=contract.scoring,
        zero_shot_template=order.zero_shot_template or contract.zero_shot_template,
        space_id=space_id(checkpoint.weights_sha256(), towers),
        toolchain=_toolchain(),
    )


def _toolchain() -> dict[str, str]:
    """Versions of what is installed: an export from an ONNX graph needs no torch."""
    installed = [name for name in _TOOLCHAIN if any(importlib.metadata.distributions(name=name))]
    return {name: importlib.metadata.version(name) for name in installed} | {"onnxruntime": ORT_VERSION}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The user's calibration files. Without a vision tower there are no pictures."""

    pictures: Sequence[Path]
    golden_images: Sequence[bytes]
    texts: Sequence[str]
    golden_texts: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class TowerRows:
    """Rows of one tower, made by the serving code's own preprocessing."""

    calibration: Sequence[Row]
    golden: Sequence[Row]


def _inputs(order: Order, towers: Towers, texts: Sequence[str]) -> Inputs:
    pictures = _calibration_pictures(order) if towers.vision else []
    golden_images = golden.golden_images(pictures[0], towers.vision.geometry) if pictures and towers.vision else []
    golden_texts = golden.golden_texts(towers.text) if towers.text else ()
    return Inputs(pictures=pictures, golden_images=golden_images, texts=texts, golden_texts=golden_texts)


def _rows(inputs: Inputs, towers: Towers, directory: Path) -> dict[Tower, TowerRows]:
    rows = {}
    if (vision := towers.vision) is not None:
        rows[Tower.VISION] = TowerRows(
            calibration=image_rows(inputs.pictures, vision),
            golden=[image_row(decode(png), vision) for png in inputs.golden_images],
        )
    if (text := towers.text) is not None:
        tokenize = HuggingFaceTokenizer(directory / text.tokenizer.path)
        rows[Tower.TEXT] = TowerRows(
            calibration=text_rows(inputs.texts, tokenize, text),
            golden=[text_row(line, tokenize, text).row for line in golden.golden_texts(text)],
        )
    return rows


def _with_artifacts(towers: Towers, results: Mapping[Tower, TowerResult]) -> Towers:
    whole = {tower: replace(getattr(towers, tower), artifacts=result.artifacts) for tower, result in results.items()}
    return Towers(**whole)


def _write_golden(directory: Path, inputs: Inputs, results: Mapping[Tower, TowerResult]) -> FileRecord:
    embeddings = {tower: one.golden for tower, one in results.items()}
    return golden.write_golden(directory, inputs.golden_texts, inputs.golden_images, embeddings)


def _write_report(
    directory: Path, manifest: Manifest, rows: Mapping[Tower, TowerRows], results: Mapping[Tower, TowerResult]
) -> None:
    """report.html and report.json, on the rows that no range was taken from."""
    held_back = {tower: of.calibration[::HELD_BACK] for tower, of in rows.items()}
    reference = {tower: result.calibration[::HELD_BACK] for tower, result in results.items()}
    write_report(measure(directory, manifest, held_back, reference), directory)


def _ledger_key(checkpoint: Checkpoint, rows: Mapping[Tower, TowerRows]) -> str:
    """Figures hold for the same weights, the same calibration rows, this exporter, and this kind of CPU."""
    version, kernels = importlib.metadata.version("siglip-edge"), " ".join(read_cpu_budget().isa)
    digest = hashlib.sha256(f"{checkpoint.weights_sha256()} {version} {ORT_VERSION} {kernels}".encode())
    for row in (row for of in rows.values() for row in of.calibration):
        for array in row.arrays.values():
            digest.update(array.tobytes())
    return digest.hexdigest()


def _with_tokenizer(contract: Contract, directory: Path, source: str, progress: Progress) -> Towers:
    """The contract's towers, with the text tower's tokenizer written, packed where a packed form is right."""
    text = contract.towers.text
    if text is None or contract.tokenizer_json is None:
        return contract.towers
    path = directory / text.tokenizer.path
    path.write_text(contract.tokenizer_json, encoding="utf-8")
    packed = None
    try:
        packed = write_packed_tokenizer(directory, path, progress)
    except NotPackable as reason:
        logger.warning("%s keeps tokenizer.json, which takes more memory: %s", source, reason)
    return replace(contract.towers, text=replace(text, tokenizer=record_file(directory, path), packed_tokenizer=packed))


def _write_rotation(directory: Path, results: Mapping[Tower, TowerResult]) -> RotationSpec:
    """Learn the basis on the calibrating rows, measure it on the held-back rows."""
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
    target = order.output / name
    if Path(order.source).is_dir() and target.resolve() == Path(order.source).resolve():
        raise ExportError(f"{target} is the checkpoint itself; choose another --output, or another --name")
    return target


def _source_of(source: str) -> str:
    """A hub id, which is a name of the model in requests; of a local checkpoint the last part of its path."""
    return name_of(source) if Path(source).exists() else source


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
    if target.exists() and not (target / MANIFEST).is_file():  # somebody's own folder may have the name of a checkpoint
        raise ExportError(f"{target}: no model directory, so --overwrite does not replace it; choose another --name")
    beside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    beside.mkdir(parents=True)
    try:
        yield beside
        put_in_place(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
