"""A model directory, loaded: two towers, their preprocessing and their scoring."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.checksum_cache import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import Artifact, Manifest, Tower
from siglip_edge.runtime.errors import ArtifactMissing, UnsupportedInput
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.execution.tower import TowerOnDemand, open_sessions
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.runtime.shortening import Rotation
from siglip_edge.runtime.text import token_ids
from siglip_edge.runtime.text.tokenizer import Tokenizer, load_tokenizer
from siglip_edge.runtime.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL import Image

    from siglip_edge.runtime.images.pixels import Box

Floats = NDArray[np.float32]
Row = NDArray[np.generic]
"""One prepared input: pixels uint8 (3, S, S) for vision, token ids int64 (L,) for text."""


@dataclass(frozen=True)
class TextRow:
    """A text, prepared. `tokens` counts real ones: EOS included, padding not."""

    ids: NDArray[np.int64]
    tokens: int
    truncated: bool


class EmbeddingModel:
    """Two towers of one embedding space, or one of them. Thread-safe: onnxruntime sessions and tokenizers are."""

    def __init__(
        self,
        manifest: Manifest,
        plan: ExecutionPlan,
        *,
        towers: Mapping[Tower, TowerOnDemand],
        vocabulary: Vocabulary | None,
        tokenizer: Tokenizer | None,
        rotation: Rotation | None = None,
    ) -> None:
        """`vocabulary` and `tokenizer`: the text tower's, None without it."""
        self.manifest = manifest
        self.plan = plan
        self._towers = towers
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._rotation = rotation
        self.loading: Future[None] = Future()
        """Done when all towers are there that are to be loaded before they are asked; fails as their load failed."""
        self.loading.set_result(None)

    @classmethod
    def load(
        cls,
        directory: Path,
        plan: ExecutionPlan,
        *,
        towers: Collection[Tower] = tuple(Tower),
        cache: Path | None = None,
        lazily: bool = False,
    ) -> EmbeddingModel:
        """Verify the planned artifacts and load the asked towers, or, `lazily`, leave each to its first run.

        `cache`: where prepared graphs and the memory of verified checksums are kept between starts; None: nowhere.
        Raises ModelError or ProviderUnavailable.
        """
        manifest = Manifest.load(directory)
        verified = ChecksumCache(cache / "verified" if cache else None)
        prepared = cache / "prepared" if cache else None
        artifacts = {tower: manifest.artifact(tower, plan.precision) for tower in Tower if tower in towers}
        on_demand = {
            tower: TowerOnDemand(partial(open_sessions, directory, artifact, plan, prepared, verified))
            for tower, artifact in artifacts.items()
        }
        text = Tower.TEXT in artifacts
        model = cls(
            manifest,
            plan,
            towers=on_demand,
            vocabulary=_load_vocabulary(directory, artifacts[Tower.TEXT], verified) if text else None,
            tokenizer=load_tokenizer(directory, manifest.text, verified) if text else None,
            rotation=_load_rotation(directory, manifest, verified),
        )
        if not lazily:
            model.load_towers()
        return model

    def load_towers(self) -> None:
        """Load what is not loaded, side by side. Raises ModelError or ProviderUnavailable."""
        with ThreadPoolExecutor(len(self._towers)) as pool:  # onnxruntime loads without the interpreter's lock
            list(pool.map(TowerOnDemand.load, self._towers.values()))

    def load_text_first(self) -> None:
        """Load the text tower, and leave the other one to a thread: its runs wait for it, `loading` tells of it.

        On two cores texts are answered after two thirds of the time that both towers side by side would take, and
        images no later. Where no text tower is served, this is `load_towers`. Raises as that does.
        """
        first, *others = sorted(self._towers, key=(Tower.TEXT, Tower.VISION).index)
        self._towers[first].load()
        if others:
            pool = ThreadPoolExecutor(1, thread_name_prefix="load")  # joined at exit: nothing native is cut off
            self.loading = pool.submit(self.load_towers)
            pool.shutdown(wait=False)

    def load_tower(self, tower: Tower) -> None:
        """Load one unless it is loaded; its next run would do so otherwise. Raises as `load_towers`."""
        self._tower(tower).load()

    @property
    def towers(self) -> tuple[Tower, ...]:
        """Those that are served."""
        return tuple(self._towers)

    def loaded(self) -> tuple[Tower, ...]:
        """Those whose weights are in memory."""
        return tuple(tower for tower, on_demand in self._towers.items() if on_demand.is_loaded)

    def test_loads(self, test: Callable[[Tower], object]) -> None:
        """From here on `test(tower)` is called after each load of a tower, before anyone else's rows are run.

        What it raises, the run that needed the tower raises; the next run tries again.
        """
        for tower, on_demand in self._towers.items():
            on_demand.test = partial(test, tower)

    def rest(self, tower: Tower) -> None:
        """Give back to the system what a tower's runs keep for the next one; its weights stay."""
        self._tower(tower).rest()
        if tower is Tower.TEXT and self._tokenizer is not None:
            self._tokenizer.rest()

    def unload(self, tower: Tower) -> bool:
        """Give a tower's memory back to the system, if it has any; its next run loads it again. -> whether it had."""
        return self._tower(tower).unload()

    def prepare_image(self, image: Image.Image, box: Box | None = None) -> NDArray[np.uint8]:
        """Any Pillow image, or the part of it in `box` -> one vision row, uint8 (3, S, S). Raises UnsupportedInput."""
        from siglip_edge.runtime.images.pixels import pixels  # noqa: PLC0415 - Pillow, which texts alone do not need

        self._tower(Tower.VISION)
        return pixels(image, self.manifest.image, box)

    def prepare_text(self, text: str) -> TextRow:
        """Any text -> one text row; `ids` is int64 (L,). Raises UnsupportedInput when no text tower is served."""
        self._tower(Tower.TEXT)
        assert self._tokenizer is not None
        return TextRow(*token_ids.token_ids(text, self._tokenizer, self.manifest.text))

    def run(self, tower: Tower, rows: list[Row], *, crowded: bool = False) -> Floats:
        """Rows of one tower -> embeddings, (n, d) float32 of unit length. A row's bits do not depend on the others.

        `crowded`: as many runs as planned are under way, so this one takes its share of the threads only.
        """
        batch = np.stack(rows)
        if tower is Tower.TEXT and self._vocabulary is not None:
            batch = self._vocabulary.lookup(batch.astype(np.int64, copy=False))
        return l2_normalize(self._tower(tower).run(batch, crowded=crowded))

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

    def _tower(self, tower: Tower) -> TowerOnDemand:
        """Raises UnsupportedInput for a tower that is not served."""
        if tower not in self._towers:
            raise UnsupportedInput(f"no {tower} tower is served here: {', '.join(self._towers)} only")
        return self._towers[tower]


def _load_vocabulary(directory: Path, artifact: Artifact, verified: ChecksumCache) -> Vocabulary:
    if artifact.vocabulary is None:
        raise ArtifactMissing(f"{directory}: the text artifact names no vocabulary; run the export again")
    verified.verify(directory, artifact.vocabulary.file)
    return Vocabulary.load(directory, artifact.vocabulary)


def _load_rotation(directory: Path, manifest: Manifest, verified: ChecksumCache) -> Rotation | None:
    if manifest.rotation is None:
        return None
    verified.verify(directory, manifest.rotation.file)
    return Rotation.load(directory, manifest.rotation, manifest.dimensions)
