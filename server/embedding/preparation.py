"""Inputs -> rows, in the request's own thread: decode, squash, tokenize. And what makes two inputs the same."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blake3 import blake3

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import DeadlineExceeded
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.model import Floats
from siglip_edge.runtime.rows import Row, TextRow
from siglip_edge.runtime.text.token_ids import canonicalize
from siglip_edge.server.http.request_context import RequestContext
from siglip_edge.server.inputs.input_reader import ImageFile, Text, TokenIds

if TYPE_CHECKING:
    from PIL import Image

    from siglip_edge.runtime.images.geometry import Box
    from siglip_edge.server.inputs.decoding import Decoded

Part = Text | TokenIds | ImageFile
"""What one run of one tower embeds; a joint input has two."""


class Model(Protocol):
    """What serving needs of `runtime.model.EmbeddingModel`."""

    manifest: Manifest
    plan: ExecutionPlan
    loading: Future[None]

    @property
    def towers(self) -> tuple[Tower, ...]: ...

    def prepare_image(self, image: Image.Image, box: Box | None = None) -> Row: ...

    def prepare_text(self, text: str) -> TextRow: ...

    def prepare_token_ids(self, ids: Sequence[int]) -> TextRow: ...

    def load_tower(self, tower: Tower) -> None: ...

    def run(self, tower: Tower, rows: Sequence[Row], *, crowded: bool = False) -> Floats: ...

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats: ...


@dataclass(frozen=True)
class Prepared:
    """A row for its tower's lane, and what it counts in `usage`."""

    tower: Tower
    row: Row
    tokens: int = 0
    truncated: bool = False
    patches: int = 0


class Preparation:
    """One model's. At most `max_decoding` images are expanded at once: their pixels are what takes memory."""

    def __init__(self, model: Model, decode: Callable[[bytes], Decoded], *, max_decoding: int) -> None:
        self._model = model
        self._decode = decode
        self._decoding = threading.BoundedSemaphore(max_decoding)

    def key(self, part: Part) -> Hashable:
        """Equal for inputs whose embeddings are equal: a digest of the text as the tower sees it, or of the file."""
        if isinstance(part, TokenIds):
            return TokenIds, part.ids
        if isinstance(part, Text):
            spec = self._model.manifest.towers.text
            content = (canonicalize(part.text, spec) if spec else part.text).encode("utf-8", "surrogatepass")
            return Text, hashlib.blake2b(content, digest_size=16).digest()
        # hashlib's BLAKE2b takes ten times as long: 9.7 ms of a slow hour for a photograph of twelve megapixels.
        return ImageFile, blake3(part.data).digest(length=16)

    def prepare(self, part: Part, context: RequestContext) -> Prepared:
        """Raises InvalidInput, or DeadlineExceeded when the images before it take too long."""
        if isinstance(part, ImageFile):
            return self._prepare_image(part, context)
        with context.stage("tokenize", Tower.TEXT):
            text = (
                self._model.prepare_text(part.text)
                if isinstance(part, Text)
                else self._model.prepare_token_ids(part.ids)
            )
        return Prepared(Tower.TEXT, text.row, text.tokens, text.truncated)

    def _prepare_image(self, image: ImageFile, context: RequestContext) -> Prepared:
        with context.stage("decode", Tower.VISION):
            if not self._decoding.acquire(timeout=max(0.0, context.deadline - time.monotonic())):
                raise DeadlineExceeded("the request's time was up before its image was decoded")
            try:
                row = self._model.prepare_image(*self._decode(image.data))
            finally:
                self._decoding.release()
        return Prepared(Tower.VISION, row, patches=row.cost)


def tower_of(part: Part) -> Tower:
    return Tower.VISION if isinstance(part, ImageFile) else Tower.TEXT
