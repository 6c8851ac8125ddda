"""The recipe, one line a step: load, trace, halve, calibrate, quantize, verify, write, rename into place."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import __version__ as ORT_VERSION  # noqa: N812 - its wheel has three names, its module one

from exporter import fidelity, graphs
from exporter.calibration import Row, image_rows, observe, text_rows
from exporter.checkpoint import Checkpoint, load_checkpoint
from exporter.errors import ExportError
from exporter.half import to_half
from exporter.quantize import linear_nodes, quantize
from runtime.cpu import read_cpu_budget
from runtime.manifest import (
    FORMAT_VERSION,
    Artifact,
    FileRecord,
    ImageSpec,
    Manifest,
    Precision,
    TextSpec,
    Tower,
    VocabularySpec,
    record_file,
)
from runtime.model import SiglipModel
from runtime.providers import CPU, ExecutionPlan, Wishes, plan
from runtime.session import GraphSession
from runtime.tokenizer import HuggingFaceTokenizer
from runtime.vocabulary import Vocabulary, write_vocabulary

Floats = NDArray[np.float32]
Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Shows an iteration: (items, what they are) -> the same items."""

DEFAULT_TEXTS = Path(__file__).with_name("calibration_texts.txt")
DEFAULT_TEMPLATE = "This is a photo of {}."
"""Of SigLIP's own zero-shot evaluation."""

VOCABULARY_DTYPE = {Precision.FP32: "float32", Precision.FP16: "float16", Precision.INT8: "int8"}
HELD_BACK = 4
"""Every fourth calibration row is held back: fidelity is measured on rows that no range was taken from."""
FEWEST_IMAGES = 8
_TOOLCHAIN = ("torch", "transformers", "optimum", "onnx", "numpy", "pillow", "siglip-edge")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the user asked for."""

    source: str
    output: Path
    name: str | None = None
    precisions: Collection[Precision] = (Precision.INT8, Precision.FP16)
    calibration_images: Path | None = None
    calibration_texts: Path | None = None
    zero_shot_template: str = DEFAULT_TEMPLATE
    overwrite: bool = False


def export(order: Order, progress: Progress = lambda items, _: items) -> Path:
    """Make a model directory, `order.output / name`, whole or not at all.

    Raises ExportError (also FidelityError) or ModelError, each one sentence; OSError when the disk is full.
    """
    images = _calibration_images(order)
    texts = order.calibration_texts or _beside(order.source, "texts.txt") or DEFAULT_TEXTS
    checkpoint = load_checkpoint(order.source)
    with _staged(order.output / (order.name or checkpoint.name), overwrite=order.overwrite) as directory:
        image_spec, text_spec = _image_spec(checkpoint), _write_tokenizer(checkpoint, directory)
        tokenize = HuggingFaceTokenizer(directory / text_spec.tokenizer.path)
        rows = {Tower.VISION: image_rows(images, image_spec), Tower.TEXT: text_rows(texts, tokenize, text_spec)}
        if len(rows[Tower.VISION]) < FEWEST_IMAGES:
            raise ExportError(f"{images}: {len(rows[Tower.VISION])} images; calibration needs at least {FEWEST_IMAGES}")
        artifacts = [
            artifact
            for tower in Tower
            for artifact in _tower_artifacts(
                _Tower(checkpoint, tower, rows[tower], directory, progress), order.precisions
            )
        ]
        manifest = _manifest(order, checkpoint, image_spec, text_spec, artifacts)
        manifest.save(directory)
        _serve_once(directory, manifest)
    return order.output / (order.name or checkpoint.name)


@dataclass(frozen=True)
class _Tower:
    """One tower on its way: its rows are pixels or token ids, as serving makes them."""

    checkpoint: Checkpoint
    tower: Tower
    rows: Sequence[Row]
    directory: Path
    progress: Progress

    @property
    def table(self) -> Floats:
        """The token embedding table, (vocabulary, width); not copied."""
        return np.asarray(self.checkpoint.model.text_model.embeddings.token_embedding.weight.detach().numpy())

    def inputs(self, rows: Iterable[Row], vocabulary: Vocabulary | None) -> Iterator[Row]:
        """What the graph takes: pixels as they are, token ids looked up."""
        return (vocabulary.lookup(row.astype(np.int64)) if vocabulary else row for row in rows)


def _tower_artifacts(tower: _Tower, precisions: Collection[Precision]) -> list[Artifact]:
    """Trace one tower, prove it against transformers, and derive every precision from it."""
    model = _traced(tower)
    held_back = tower.rows[::HELD_BACK]
    exact = _write_graph(tower, model, "reference")
    reference = _run(tower, exact, Precision.FP32, held_back, _exact_vocabulary(tower))
    _verify_trace(tower, held_back, reference)
    artifacts = []
    for precision in sorted(precisions, key=list(Precision).index):
        files = _write_graph(tower, _converted(tower, model, exact[0], precision), precision)
        vocabulary = _write_table(tower, precision) if tower.tower is Tower.TEXT else None
        loaded = Vocabulary.load(tower.directory, vocabulary) if vocabulary else None
        measured = fidelity.compare(reference, _run(tower, files, precision, held_back, loaded))
        graph, *external = (record_file(tower.directory, file) for file in files)
        artifacts.append(
            Artifact(
                tower=tower.tower,
                precision=precision,
                graph=graph,
                external_data=tuple(external),
                vocabulary=vocabulary,
                fidelity=fidelity.require(measured, tower.tower, precision),
            )
        )
    graphs.remove(exact[0])
    return artifacts


def _traced(tower: _Tower) -> onnx.ModelProto:
    from exporter.towers import trace

    path = tower.directory / f"{tower.tower}_traced.onnx"
    for _ in tower.progress([path], f"{tower.tower}: trace"):
        trace(tower.checkpoint, tower.tower, path)
    model = graphs.simplify(path)
    graphs.remove(path)
    return model


def _converted(tower: _Tower, model: onnx.ModelProto, path: Path, precision: Precision) -> onnx.ModelProto:
    """`model`, which is also at `path`, in another precision."""
    if precision is Precision.FP16:
        return to_half(path)
    if precision is Precision.INT8:
        seen = [row for index, row in enumerate(tower.rows) if index % HELD_BACK]
        shown = tower.progress(seen, f"{tower.tower}: calibrate")
        tensors = sorted({node.input[0] for node in linear_nodes(model.graph)})
        return quantize(model, observe(model, tensors, tower.inputs(shown, _exact_vocabulary(tower)), tower.directory))
    return model


def _run(
    tower: _Tower, files: Sequence[Path], precision: Precision, rows: Sequence[Row], vocabulary: Vocabulary | None
) -> Floats:
    """Pooled outputs of rows, (n, d), in the session options that will serve them."""
    session = GraphSession(files[0], _serving_plan(precision))
    shown = tower.progress(rows, f"{tower.tower}: verify {files[0].stem}")
    return np.concatenate([session.run(row[None]) for row in tower.inputs(shown, vocabulary)])


def _verify_trace(tower: _Tower, rows: Sequence[Row], traced: Floats) -> None:
    """The FP32 graph, its folded constants included, against transformers on the same rows."""
    import torch

    model, few = tower.checkpoint.model, torch.from_numpy(np.stack(rows[:16]))
    with torch.no_grad():
        if tower.tower is Tower.VISION:
            mean, std = (torch.tensor(part).view(1, 3, 1, 1) for part in (tower.checkpoint.mean, tower.checkpoint.std))
            wanted = model.get_image_features(pixel_values=(few.float() / 255 - mean) / std)
        else:
            wanted = model.get_text_features(input_ids=few)
    fidelity.require(fidelity.compare(wanted.numpy(), traced[:16]), tower.tower, Precision.FP32)


def _exact_vocabulary(tower: _Tower) -> Vocabulary | None:
    return Vocabulary(tower.table, None) if tower.tower is Tower.TEXT else None


def _write_graph(tower: _Tower, model: onnx.ModelProto, what: str) -> list[Path]:
    return graphs.save(model, tower.directory / f"{tower.tower}_{what}.onnx")


def _write_table(tower: _Tower, precision: Precision) -> VocabularySpec:
    path, dtype = tower.directory / f"vocabulary_{precision}.bin", VOCABULARY_DTYPE[precision]
    with path.open("wb") as file:
        write_vocabulary(file, tower.table, dtype)
    rows, width = tower.table.shape
    return VocabularySpec(file=record_file(tower.directory, path), dtype=dtype, rows=rows, width=width)


def _image_spec(checkpoint: Checkpoint) -> ImageSpec:
    return ImageSpec(
        size=checkpoint.image_size,
        patch_size=checkpoint.patch_size,
        resample=checkpoint.resample,
        mean=checkpoint.mean,
        std=checkpoint.std,
    )


def _write_tokenizer(checkpoint: Checkpoint, directory: Path) -> TextSpec:
    path = directory / "tokenizer.json"
    path.write_text(checkpoint.tokenizer_json, encoding="utf-8")
    return TextSpec(
        length=checkpoint.length,
        pad_id=checkpoint.pad_id,
        eos_id=checkpoint.eos_id,
        lowercase=True,
        strip_punctuation=checkpoint.strip_punctuation,
        tokenizer=record_file(directory, path),
    )


def _manifest(
    order: Order, checkpoint: Checkpoint, image: ImageSpec, text: TextSpec, artifacts: Sequence[Artifact]
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=order.name or checkpoint.name,
        source=checkpoint.name,
        dimensions=checkpoint.model.config.text_config.projection_size,
        image=image,
        text=text,
        logit_scale=float(checkpoint.model.logit_scale.exp()),
        logit_bias=float(checkpoint.model.logit_bias),
        zero_shot_template=order.zero_shot_template,
        space_id=_space_id(checkpoint, image, text),
        artifacts=tuple(artifacts),
        toolchain={package: importlib.metadata.version(package) for package in _TOOLCHAIN}
        | {"onnxruntime": ORT_VERSION},
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def _space_id(checkpoint: Checkpoint, image: ImageSpec, text: TextSpec) -> str:
    """Weights and input contract decide whether vectors may be compared; precision and file layout do not."""
    contract: list[FileRecord | ImageSpec | TextSpec] = [image, text]
    digest = hashlib.sha256(checkpoint.weights_sha256().encode() + msgspec.json.encode(contract))
    return digest.hexdigest()[:16]


def _serving_plan(precision: Precision, manifest: Manifest | None = None) -> ExecutionPlan:
    cpu = read_cpu_budget()
    if manifest is not None:
        return plan([CPU], cpu, manifest, Wishes(device="cpu", precision=precision))
    return ExecutionPlan(
        provider=CPU,
        precision=precision,
        intra_op_threads=cpu.cores,
        rows_per_run=1,
        reason="export: verified as served",
    )


def _serve_once(directory: Path, manifest: Manifest) -> None:
    """Load the finished directory with the serving code, in every precision, and embed one of each."""
    from PIL import Image

    for precision in manifest.precisions():
        model = SiglipModel.load(directory, _serving_plan(precision, manifest))
        model.embed_texts(["a photo of a cat"])
        model.embed_images([Image.new("RGB", (37, 23), (200, 60, 20))])


def _calibration_images(order: Order) -> Path:
    images = order.calibration_images or _beside(order.source, "images")
    if images is None:
        raise ExportError(
            f"{order.source}: no calibration images. Give a folder of a hundred or more pictures like those you will "
            "serve: --calibration-images DIR (every artifact is verified on them, INT8 takes its ranges from them)"
        )
    if not images.is_dir():
        raise ExportError(f"{images}: not a folder; --calibration-images takes a folder of pictures")
    return images


def _beside(source: str, name: str) -> Path | None:
    """A calibration set that ships with a local checkpoint: `calibration/` inside it or beside it."""
    candidates = [Path(source, "calibration", name), Path(source).absolute().parent / "calibration" / name]
    return next((path for path in candidates if path.exists()), None)


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
