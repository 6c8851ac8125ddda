"""Inputs -> rows, in the thread of the request: decode, squash, tokenize. Also the keys of inputs in the cache."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blake3 import blake3

from siglip_edge.runtime.artifacts.manifest import Manifest, Tower
from siglip_edge.runtime.errors import DeadlineExceeded, SiglipEdgeError, UndecodableImage
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.model import Floats
from siglip_edge.runtime.rows import Row, TextRow
from siglip_edge.runtime.text.token_ids import canonicalize
from siglip_edge.server.http.request_context import RequestContext
from siglip_edge.server.inputs.input_reader import ImageFile, Text, TokenIds

if TYPE_CHECKING:
    from PIL import Image

    from siglip_edge.runtime.images.picture import Picture

logger = logging.getLogger("siglip_edge")

Part = Text | TokenIds | ImageFile
"""An input for one tower; a joint input has two parts."""


class Model(Protocol):
    """The part of `runtime.model.EmbeddingModel` that the server uses; tests have a model without a graph."""

    manifest: Manifest
    plan: ExecutionPlan
    loading: Future[None]

    @property
    def towers(self) -> tuple[Tower, ...]: ...

    def prepare_image(self, image: Image.Image | Picture, max_patches: int | None = None) -> Row: ...

    def prepare_text(self, text: str) -> TextRow: ...

    def prepare_token_ids(self, ids: Sequence[int]) -> TextRow: ...

    def load_tower(self, tower: Tower) -> None: ...

    def run(self, tower: Tower, rows: Sequence[Row], *, crowded: bool = False) -> Floats: ...

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats: ...


@dataclass(frozen=True)
class Prepared:
    """A row for the lane of its tower, and the counts that `usage` reports."""

    tower: Tower
    row: Row
    tokens: int = 0
    truncated: bool = False
    patches: int = 0


class Preparation:
    """Prepares the inputs of one model.

    At most `max_decoding` images are decoded at the same time, because the pixels of an image take the most memory.
    """

    def __init__(self, model: Model, decode: Callable[[bytes, int | None], Picture], *, max_decoding: int) -> None:
        """`decode`: an image file and its `max_patches` -> the picture."""
        self._model = model
        self._decode = decode
        self._decoding = threading.BoundedSemaphore(max_decoding)

    def key(self, part: Part) -> Hashable:
        """The key in the cache: a digest of the canonical text, or of the image file's bytes beside its patches.

        Inputs with equal keys have equal embeddings.
        """
        if isinstance(part, TokenIds):
            return TokenIds, part.ids
        if isinstance(part, Text):
            spec = self._model.manifest.towers.text
            content = (canonicalize(part.text, spec) if spec else part.text).encode("utf-8", "surrogatepass")
            return Text, hashlib.blake2b(content, digest_size=16).digest()
        # BLAKE3, because hashlib's BLAKE2b takes ten times as long for a photograph (docs/performance.md).
        return ImageFile, blake3(part.data).digest(length=16), part.max_patches

    def prepare(self, part: Part, context: RequestContext) -> Prepared:
        """-> a row. Raises InvalidInput, or DeadlineExceeded when other images are decoded until the deadline."""
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
                raise DeadlineExceeded("the request ran out of time before its image was decoded")
            try:
                row = self._row(image)
            finally:
                self._decoding.release()
        return Prepared(Tower.VISION, row, patches=row.cost)

    def _row(self, image: ImageFile) -> Row:
        """Raises InvalidInput for whatever this picture makes a library raise, so that its neighbours live."""
        picture = self._decode(image.data, image.max_patches)
        try:
            return self._model.prepare_image(picture, image.max_patches)
        except (SiglipEdgeError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - of a mode or a size that nobody has tried
            logger.warning("a decoded image was refused: its preparation raised %s", type(error).__name__)
            raise UndecodableImage("the image cannot be prepared: its pixels are of no form known here") from None


def tower_of(part: Part) -> Tower:
    return Tower.VISION if isinstance(part, ImageFile) else Tower.TEXT
