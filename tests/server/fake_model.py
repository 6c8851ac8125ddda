"""A model without a graph: vectors are a hash of the row, so equal content gives equal bits. It can be held and broken."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import cast

import numpy as np
from PIL import Image

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import UnsupportedInput
from siglip_edge.runtime.execution.plan import CPU, ExecutionPlan
from siglip_edge.runtime.images.picture import Picture
from siglip_edge.runtime.images.pixels import image_row
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.runtime.rows import Row, TextRow
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.runtime.shortening import NativeOnly, Shortening
from siglip_edge.runtime.text.token_ids import canonicalize, padded

VOCABULARY = 258
"""Token ids: bytes, padding and the end."""


class FakeModel:
    """The methods of `runtime.model.EmbeddingModel`. `runs` records what each run was given."""

    def __init__(self, manifest: Manifest, *, batch_size: int = 1) -> None:
        self.manifest = manifest
        self.towers = manifest.tower_names
        self.plan = ExecutionPlan(
            provider=CPU, precision=manifest.precisions()[0], intra_op_threads=1, reason="a fake"
        ).with_rows(batch_size)
        self._shortening: Shortening = NativeOnly(manifest.dimensions)
        self.loading: Future[None] = Future()
        self.loading.set_result(None)
        self.runs: list[tuple[Tower, int]] = []
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        """Released once a run, before the gate: a test waits until the batch thread is inside."""

    def prepare_image(self, image: Image.Image | Picture, max_patches: int | None = None) -> Row:
        return image_row(image, self.manifest.vision, max_patches)

    def prepare_text(self, text: str) -> TextRow:
        spec = self.manifest.text
        return padded([*canonicalize(text, spec).encode(), *spec.suffix_ids], spec)

    def prepare_token_ids(self, ids: Sequence[int]) -> TextRow:
        if not all(0 <= given < VOCABULARY for given in ids):
            raise UnsupportedInput(f"token ids must be this model's own, from 0 to {VOCABULARY - 1}")
        return padded(ids, self.manifest.text)

    def shorten(self, embeddings: np.ndarray, dimensions: int) -> np.ndarray:
        return EmbeddingModel.shorten(cast("EmbeddingModel", self), embeddings, dimensions)

    def load_tower(self, tower: Tower) -> None:
        """Always loaded."""

    def run(self, tower: Tower, rows: Sequence[Row], *, crowded: bool = False) -> np.ndarray:
        self.runs.append((tower, len(rows)))
        self.entered.release()
        self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        return l2_normalize(np.stack([self._pooled(tower, row) for row in rows]))

    def _pooled(self, tower: Tower, row: Row) -> np.ndarray:
        (array, *_) = row.arrays.values()
        digest = hashlib.blake2b(tower.encode() + np.ascontiguousarray(array).tobytes(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest))
        return rng.standard_normal(self.manifest.dimensions).astype(np.float32)
