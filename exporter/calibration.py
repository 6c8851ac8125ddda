"""Calibration: rows made by the serving code itself, and the ranges their activations take in the FP32 graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from exporter import graphs
from exporter.errors import ExportError
from runtime import preprocess
from runtime.manifest import ImageSpec, TextSpec

Row = NDArray[np.generic]
Floats = NDArray[np.float32]
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_MOST_SKIPPED = 0.1
"""Share of unreadable calibration images beyond which the folder is probably not what the user meant."""
_BINS = 4096


def image_files(directory: Path) -> list[Path]:
    """Every image below `directory`, by name; those that cannot be read are passed over.

    Raises ExportError when there are none, or so many unreadable ones that the folder cannot be what was meant.
    """
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ExportError(f"{directory}: no images here ({known}); artifacts are calibrated and verified on real ones")
    unreadable = {path: problem for path in paths if (problem := _problem(path))}
    if len(unreadable) > _MOST_SKIPPED * len(paths):
        few = "; ".join(f"{path.name} ({problem})" for path, problem in list(unreadable.items())[:3])
        counts = f"{len(unreadable)} of {len(paths)} images cannot be read"
        raise ExportError(f"{directory}: {counts}: {few}; remove or repair them")
    return [path for path in paths if path not in unreadable]


def _problem(path: Path) -> str | None:
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return str(error) or type(error).__name__
    return None


def image_rows(paths: Sequence[Path], spec: ImageSpec) -> list[Row]:
    """Vision rows of readable images: pixels uint8 (3, S, S)."""
    rows: list[Row] = []
    for path in paths:
        with Image.open(path) as image:
            rows.append(preprocess.pixels(image, spec))
    return rows


def text_rows(file: Path, tokenize: Callable[[str], list[int]], spec: TextSpec) -> list[Row]:
    """Every non-empty line of a UTF-8 file, as text rows: token ids int64 (L,)."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file}: calibration texts cannot be read, one a line in UTF-8 ({error})") from error
    if not lines:
        raise ExportError(f"{file}: holds no texts; INT8 is calibrated on real ones, one a line")
    return [preprocess.token_ids(line, tokenize, spec)[0] for line in lines]


@dataclass
class Histogram:
    """Values of one activation: counts over [-reach, reach] in equal bins, and the exact extremes."""

    low: float = np.inf
    high: float = -np.inf
    reach: float = 0.0
    counts: NDArray[np.int64] | None = None

    def add(self, values: Floats) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        magnitude = max(abs(self.low), abs(self.high))
        if self.counts is None:
            self.reach, self.counts = max(magnitude, 1e-12), np.zeros(_BINS, np.int64)
        while self.reach < magnitude:
            self._double()
        self.counts += np.histogram(values, _BINS, (-self.reach, self.reach))[0]

    def _double(self) -> None:
        # Two old bins make one new one, in the middle half: nothing that was counted moves across a bin edge.
        assert self.counts is not None
        merged = np.zeros_like(self.counts)
        merged[_BINS // 4 : 3 * _BINS // 4] = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts, self.reach = merged, 2 * self.reach


def observe(model: onnx.ModelProto, tensors: Sequence[str], rows: Iterable[Row], scratch: Path) -> dict[str, Histogram]:
    """Run the FP32 graph over `rows` (its own inputs, one at a time) and histogram the named inner tensors.

    `scratch`: a directory for the probed graph, which may be too large for memory-to-memory loading.
    """
    histograms = {tensor: Histogram() for tensor in tensors}
    for values in _inner_values(model, tensors, rows, scratch / "probed.onnx"):
        for tensor, value in zip(tensors, values, strict=True):
            histograms[tensor].add(value)
    return histograms


def _inner_values(
    model: onnx.ModelProto, tensors: Sequence[str], rows: Iterable[Row], path: Path
) -> Iterator[list[Floats]]:
    outputs = len(model.graph.output)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(tensor) for tensor in tensors)
    graphs.save(model, path)
    del model.graph.output[outputs:]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    graphs.remove(path)
    name = session.get_inputs()[0].name
    for row in rows:
        yield session.run(list(tensors), {name: row[None]})
