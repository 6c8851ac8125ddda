"""Calibration: rows made by the serving code itself, and the ranges their activations take in the FP32 graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from siglip_edge.exporter.errors import ExportError
from siglip_edge.exporter.graphs import graph_files as graphs
from siglip_edge.exporter.reproducible import side_by_side
from siglip_edge.runtime.artifacts.manifest import FullLength, Geometry, Patches, TextTower, VisionTower
from siglip_edge.runtime.errors import InvalidInput
from siglip_edge.runtime.images.decoding import decode
from siglip_edge.runtime.images.pixels import image_row, to_rgb
from siglip_edge.runtime.rows import Arrays, Row
from siglip_edge.runtime.text.token_ids import ATTENTION_MASK, text_row

Floats = NDArray[np.float32]
Progress = Callable[[Iterable[Any], str], Iterable[Any]]
"""Shows an iteration: (items, what they are) -> the same items."""

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
_MOST_SKIPPED = 0.1
"""Share of unreadable calibration images beyond which the folder is probably the wrong one."""
FEWEST_TEXTS = 8
"""As many as pictures: a quarter is held back for the verification, and ranges need several rows."""
LONGER = (32, 64, 128, 256, 512)
"""Tokens of the longer texts. Activations of every layer of a large model take 350 MB at 512 tokens."""
ROWS_OF_A_LENGTH = 8
"""Of which two are held back."""
SAMPLE = 512
"""Positions of an activation that are kept, over all rows. Those of every layer of a base tower take 150 MB."""


def image_files(directory: Path) -> list[Path]:
    """Every readable image below `directory`, by name.

    Raises ExportError when there is none, or when so many are unreadable that the folder is probably the wrong one.
    """
    paths = sorted(path for path in directory.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ExportError(
            f"{directory}: no images here ({known}); artifacts are calibrated and verified on real images"
        )
    unreadable = {path: problem for path in paths if (problem := _problem(path))}
    if len(unreadable) > _MOST_SKIPPED * len(paths):
        few = "; ".join(f"{path.name} ({problem})" for path, problem in list(unreadable.items())[:3])
        counts = f"{len(unreadable)} of {len(paths)} images cannot be read"
        raise ExportError(f"{directory}: {counts}: {few}; remove or repair them")
    return [path for path in paths if path not in unreadable]


def _problem(path: Path) -> str | None:
    try:
        to_rgb(decode(path.read_bytes()))
    except (OSError, InvalidInput) as error:
        return str(error)
    return None


def image_rows(paths: Sequence[Path], spec: VisionTower) -> list[Row]:
    """Rows of readable images, decoded in full by the serving code; in turn with each of `patch_numbers`."""
    numbers = cycle(patch_numbers(spec.geometry))
    return [image_row(decode(path.read_bytes()), spec, number) for path, number in zip(paths, numbers, strict=False)]


def patch_numbers(geometry: Geometry) -> tuple[int | None, ...]:
    """Most patches of images that are calibrated on and verified: those that requests may ask for, the usual one often.

    Five, so that every fourth row, which is held back, has each of them too. None: the geometry has one number.
    """
    if not isinstance(geometry, Patches):
        return (None,)
    usual = geometry.default_patches
    return usual, max(1, usual // 4), usual, max(1, usual // 2), geometry.most_patches


def read_texts(file: Path) -> list[str]:
    """Every non-empty line of a UTF-8 file. Raises ExportError when there are too few."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{file}: calibration texts cannot be read as UTF-8, one text per line ({error})") from error
    if len(lines) < FEWEST_TEXTS:
        raise ExportError(f"{file}: {len(lines)} texts, one per line; calibration needs at least {FEWEST_TEXTS}")
    return lines


def text_rows(texts: Sequence[str], tokenize: Callable[[str], list[int]], spec: TextTower) -> list[Row]:
    """Texts as rows, and longer texts made of them where the tower takes longer ones (`joined`)."""
    rows = [text_row(text, tokenize, spec) for text in texts]
    if isinstance(spec.padding, FullLength):
        return [row.row for row in rows]
    longest = max(row.tokens for row in rows)
    longer = [
        text_row(text, tokenize, spec) for text in joined(texts, [row.tokens for row in rows], longest, spec.length)
    ]
    return [row.row for row in (*rows, *longer)]


def joined(texts: Sequence[str], tokens: Sequence[int], longest: int, most: int) -> Iterator[str]:
    """Texts in a row, as one: ROWS_OF_A_LENGTH of about every length in LONGER between `longest` and `most` tokens.

    Activations of long texts have other ranges, and texts that people collect for a calibration are short. `tokens`:
    those of each text.
    """
    start = 0
    for target in (length for length in LONGER if longest < length <= most):
        for _ in range(ROWS_OF_A_LENGTH):
            end, total = start, 0
            while total < target:
                total += tokens[end % len(tokens)]
                end += 1
            yield " ".join(texts[index % len(texts)] for index in range(start, end))
            start = end


def without_padding(row: Row) -> Row:
    """The row cut to its tokens: no served vector depends on what stands at padding, so ranges are not taken there."""
    if (mask := row.arrays.get(ATTENTION_MASK)) is None:
        return row
    tokens = int(mask.sum())
    return Row({name: array[:tokens] for name, array in row.arrays.items()}, cost=tokens)


class Observation:
    """One activation over the calibration rows: every channel's extremes, their means, and a sample of positions.

    `length`: positions of the longest row, all of which a linear layer multiplies by its weights.
    """

    def __init__(self, positions: int) -> None:
        self._positions = positions  # kept of every row that is added
        self._sample: list[Floats] = []
        self._rng = np.random.default_rng(0)
        self._rows = 0
        self.length = 0
        self.shortest = sys.maxsize  # the least length of the axis before the channels
        # Scalars until a row is added, then (k,).
        self.low, self.high = np.asarray(np.inf, np.float32), np.asarray(-np.inf, np.float32)
        self.mean_low = self.mean_high = np.asarray(0, np.float32)  # of every row's extremes

    def add(self, values: Floats) -> None:
        """(..., k): k channels."""
        flat = values.reshape(-1, values.shape[-1])
        self.length = max(self.length, len(flat))
        self.shortest = min(self.shortest, values.shape[-2])
        low, high = flat.min(axis=0), flat.max(axis=0)
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self._rows += 1
        self.mean_low = self.mean_low + (low - self.mean_low) / self._rows
        self.mean_high = self.mean_high + (high - self.mean_high) / self._rows
        chosen = self._rng.permutation(len(flat))[: self._positions]
        self._sample.append(flat[chosen])

    @property
    def sample(self) -> Floats:
        """(m, k) float32."""
        return np.concatenate(self._sample)


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Iterable[Arrays],
    count: int,
    scratch: Path,
    *,
    sample: int = SAMPLE,
) -> dict[str, Observation]:
    """Run the FP32 graph over `count` batches of one row (its own inputs) and observe the named inner tensors.

    `scratch`: a directory for the probed graph, which may be too large for memory-to-memory loading. `sample`:
    positions to keep of each tensor.
    """
    seen = {tensor: Observation(positions=-(-sample // count)) for tensor in tensors}
    for values in _inner_values(model, tensors, batches, scratch / "probed.onnx"):
        for tensor, value in zip(tensors, values, strict=True):
            seen[tensor].add(value)
    return seen


def _inner_values(
    model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[Arrays], path: Path
) -> Iterator[list[Floats]]:
    outputs = len(model.graph.output)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(tensor) for tensor in tensors)
    graphs.save(model, path)
    del model.graph.output[outputs:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graphs.remove(path)
    yield from side_by_side(lambda batch: session.run(list(tensors), dict(batch)), batches)
