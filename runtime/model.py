"""A model directory, loaded: two towers, their preprocessing and their scoring."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime import preprocess
from runtime.errors import ArtifactMissing, UnsupportedInput
from runtime.manifest import Manifest, Tower, verify_file
from runtime.providers import ExecutionPlan
from runtime.rotation import Rotation
from runtime.scoring import l2_normalize
from runtime.session import GraphSession
from runtime.tokenizer import Tokenizer, load_tokenizer
from runtime.vocabulary import Vocabulary

Floats = NDArray[np.float32]
Row = NDArray[np.generic]
"""One prepared input: pixels uint8 (3, S, S) for vision, token ids int64 (L,) for text."""


@dataclass(frozen=True)
class TextRow:
    """A text, prepared. `tokens` counts real ones: EOS included, padding not."""

    ids: NDArray[np.int64]
    tokens: int
    truncated: bool


class SiglipModel:
    """Two towers of one embedding space. Thread-safe: onnxruntime sessions and tokenizers are."""

    def __init__(
        self,
        manifest: Manifest,
        plan: ExecutionPlan,
        *,
        sessions: dict[Tower, GraphSession],
        vocabulary: Vocabulary,
        tokenizer: Tokenizer,
        rotation: Rotation | None = None,
    ) -> None:
        self.manifest = manifest
        self.plan = plan
        self._sessions = sessions
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._rotation = rotation

    @classmethod
    def load(cls, directory: Path, plan: ExecutionPlan) -> SiglipModel:
        """Verify the planned artifacts' checksums and load them. Raises ModelError or ProviderUnavailable."""
        manifest = Manifest.load(directory)
        tokenizer = load_tokenizer(directory, manifest.text)
        sessions = {}
        for tower in Tower:
            artifact = manifest.artifact(tower, plan.precision)
            for record in artifact.files:
                verify_file(directory, record)
            sessions[tower] = GraphSession(directory / artifact.graph.path, plan)
        spec = manifest.artifact(Tower.TEXT, plan.precision).vocabulary
        if spec is None:
            raise ArtifactMissing(f"{directory}: the text artifact names no vocabulary; run the export again")
        vocabulary = Vocabulary.load(directory, spec)
        rotation = _load_rotation(directory, manifest)
        return cls(manifest, plan, sessions=sessions, vocabulary=vocabulary, tokenizer=tokenizer, rotation=rotation)

    def prepare_image(self, image: Image.Image) -> NDArray[np.uint8]:
        """Any Pillow image -> one vision row, uint8 (3, S, S). Raises UnsupportedInput."""
        return preprocess.pixels(image, self.manifest.image)

    def prepare_text(self, text: str) -> TextRow:
        """Any text -> one text row; `ids` is int64 (L,)."""
        return TextRow(*preprocess.token_ids(text, self._tokenizer, self.manifest.text))

    def run(self, tower: Tower, rows: list[Row]) -> Floats:
        """Rows of one tower -> embeddings, (n, d) float32 of unit length. A row's bits do not depend on the others."""
        batch = np.stack(rows)
        if tower is Tower.TEXT:
            batch = self._vocabulary.lookup(batch.astype(np.int64, copy=False))
        return l2_normalize(self._sessions[tower].run(batch))

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) unit -> (n, dimensions) unit. The native length is returned as it is, bit for bit.

        Raises UnsupportedInput (param `dimensions`) for a longer one, or when the model holds no rotation.
        """
        native = self.manifest.dimensions
        if dimensions == native:
            return embeddings
        if self._rotation is None or not 0 < dimensions < native:
            allowed = (
                f"1 to {native}" if self._rotation else f"{native} only: this model was exported without a rotation"
            )
            raise UnsupportedInput(f"dimensions={dimensions}: this model gives {allowed}", param="dimensions")
        return self._rotation.shorten(embeddings, dimensions)

    def embed_images(self, images: list[Image.Image]) -> Floats:
        """(n, d) float32 of unit length, for scripts and the exporter; the server batches `run` itself."""
        return self.run(Tower.VISION, [self.prepare_image(image) for image in images])

    def embed_texts(self, texts: list[str]) -> Floats:
        """(n, d) float32 of unit length. No template is applied."""
        return self.run(Tower.TEXT, [self.prepare_text(text).ids for text in texts])


def _load_rotation(directory: Path, manifest: Manifest) -> Rotation | None:
    if manifest.rotation is None:
        return None
    verify_file(directory, manifest.rotation.file)
    return Rotation.load(directory, manifest.rotation, manifest.dimensions)
