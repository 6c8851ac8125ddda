"""A model directory, loaded: towers, preprocessing, scoring, shortening. `open_model` makes one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from siglip_edge.runtime.artifacts.checksums import ChecksumCache
from siglip_edge.runtime.artifacts.manifest import Artifact, Manifest, Tower
from siglip_edge.runtime.errors import ArtifactMissing, UnsupportedInput
from siglip_edge.runtime.execution.batches import batches
from siglip_edge.runtime.execution.plan import ExecutionPlan
from siglip_edge.runtime.execution.tower import TowerOnDemand, open_sessions
from siglip_edge.runtime.rows import Row, TextRow, stack
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.runtime.shortening import Shortening, load_shortening
from siglip_edge.runtime.text.token_ids import TOKEN_EMBEDDINGS, padded, text_row
from siglip_edge.runtime.text.tokenizer import Tokenizer, load_tokenizer
from siglip_edge.runtime.text.vocabulary import Vocabulary, graph_inputs

if TYPE_CHECKING:
    from PIL import Image

    from siglip_edge.runtime.images.geometry import Box

Floats = NDArray[np.float32]


class EmbeddingModel:
    """The towers of one embedding space. Thread-safe: onnxruntime sessions and tokenizers are."""

    def __init__(
        self,
        manifest: Manifest,
        plan: ExecutionPlan,
        *,
        towers: Mapping[Tower, TowerOnDemand],
        vocabulary: Vocabulary | None,
        tokenizer: Tokenizer | None,
        shortening: Shortening,
    ) -> None:
        """`vocabulary` and `tokenizer`: the text tower's, None without it."""
        self.manifest = manifest
        self.plan = plan
        self._towers = towers
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._shortening = shortening
        self.loading: Future[None] = Future()
        """Completes when every tower that loads at start-up is loaded and tested; raises if one failed."""
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
        """Verify the planned artifacts and load the towers asked for, or, `lazily`, leave each to its first run.

        No self-test: `open_model` is for everybody who serves. `cache`: where packed graphs and verified checksums are
        kept between starts; None: nowhere. Raises ModelError or ProviderUnavailable.
        """
        manifest = Manifest.load(directory)
        checksums = ChecksumCache(cache / "verified" if cache else None)
        packed = cache / "prepared" if cache else None
        artifacts = {
            tower: manifest.artifact(tower, plan.precision) for tower in manifest.tower_names if tower in towers
        }
        text = artifacts.get(Tower.TEXT)
        model = cls(
            manifest,
            plan,
            towers={
                tower: TowerOnDemand(partial(open_sessions, directory, artifact, plan, packed, checksums))
                for tower, artifact in artifacts.items()
            },
            vocabulary=_vocabulary(directory, manifest, text, checksums),
            tokenizer=load_tokenizer(directory, manifest.text, checksums) if text else None,
            shortening=load_shortening(directory, manifest, checksums),
        )
        if not lazily:
            model.load_towers()
        return model

    # -- towers --------------------------------------------------------------------------------------------------------

    @property
    def towers(self) -> tuple[Tower, ...]:
        """The towers that are served."""
        return tuple(self._towers)

    def loaded(self) -> tuple[Tower, ...]:
        """The towers whose weights are in memory."""
        return tuple(tower for tower, on_demand in self._towers.items() if on_demand.is_loaded)

    def load_towers(self) -> None:
        """Load every tower that is not loaded, side by side. Raises ModelError or ProviderUnavailable."""
        with ThreadPoolExecutor(len(self._towers)) as pool:  # onnxruntime loads without the interpreter's lock
            list(pool.map(TowerOnDemand.load, self._towers.values()))

    def load_text_first(self, failed: Callable[[], object] = lambda: None) -> None:
        """Load the text tower, then the other one in a thread: its runs wait for it, `loading` tells of it.

        On two cores texts are answered after two thirds of the time that both towers side by side would take, and
        images no later. Without a text tower, this is `load_towers`. Raises as that does. `failed` is called when the
        other tower cannot be loaded, before `loading` says so.
        """
        first, *others = sorted(self._towers, key=(Tower.TEXT, Tower.VISION).index)
        self._towers[first].load()
        if others:
            pool = ThreadPoolExecutor(1, thread_name_prefix="load")  # joined at exit: nothing native is cut off
            self.loading = pool.submit(self._load_late, failed)
            pool.shutdown(wait=False)

    def _load_late(self, failed: Callable[[], object]) -> None:
        try:
            self.load_towers()
        except BaseException:
            failed()
            raise

    def load_tower(self, tower: Tower) -> None:
        """Load one tower unless it is loaded; its next run would do so otherwise. Raises as `load_towers`."""
        self._tower(tower).load()

    def test_loads(self, test: Callable[[Tower], object]) -> None:
        """From here on `test(tower)` is called after each load of a tower, before any other rows are run.

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
        """Give a tower's memory back to the system; its next run loads it again. -> whether it was loaded."""
        return self._tower(tower).unload()

    # -- rows ----------------------------------------------------------------------------------------------------------

    def prepare_image(self, image: Image.Image, box: Box | None = None) -> Row:
        """Any Pillow image, or the part of it in `box` -> one row of the vision tower. Raises UnsupportedInput."""
        from siglip_edge.runtime.images.pixels import image_row  # noqa: PLC0415 - Pillow, which texts alone do not need

        self._tower(Tower.VISION)
        return image_row(image, self.manifest.vision, box)

    def prepare_text(self, text: str) -> TextRow:
        """Any text -> one row of the text tower. Raises UnsupportedInput when no text tower is served."""
        self._tower(Tower.TEXT)
        assert self._tokenizer is not None
        return text_row(text, self._tokenizer, self.manifest.text)

    def prepare_token_ids(self, ids: Sequence[int]) -> TextRow:
        """The model's own token ids, prefix and suffix included -> one row. Raises UnsupportedInput."""
        self._tower(Tower.TEXT)
        most = self._vocabulary.rows if self._vocabulary else 0
        if most and not all(0 <= token < most for token in ids):
            raise UnsupportedInput(f"token ids must be this model's own, from 0 to {most - 1}")
        return padded(ids, self.manifest.text)

    def run(self, tower: Tower, rows: Sequence[Row], *, crowded: bool = False) -> Floats:
        """Rows of one tower -> embeddings, (n, d) float32 of unit length. A row's bits do not depend on the others.

        Rows share runs as the plan allows. `crowded`: as many runs as planned are under way, so this one takes its
        share of the threads only.
        """
        embeddings = np.empty((len(rows), self.manifest.dimensions), np.float32)
        for positions in batches(rows, self.plan.batch_limit(tower)):
            batch = graph_inputs(stack([rows[position] for position in positions]), self._vocabulary)
            embeddings[positions] = l2_normalize(self._tower(tower).run(batch, crowded=crowded))
        return embeddings

    def embed_images(self, images: Sequence[Image.Image]) -> Floats:
        """(n, d) float32 of unit length, for scripts and the exporter; the server batches `run` itself."""
        return self.run(Tower.VISION, [self.prepare_image(image) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """(n, d) float32 of unit length. No template and no prompt is applied."""
        return self.run(Tower.TEXT, [self.prepare_text(text).row for text in texts])

    # -- vectors -------------------------------------------------------------------------------------------------------

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) unit -> (n, dimensions) unit. The native length is returned as it is, bit for bit.

        Raises UnsupportedInput (param `dimensions`) for a length that this model does not give.
        """
        if dimensions == self.manifest.dimensions:
            return embeddings
        return self._shortening.shorten(embeddings, dimensions)

    def _tower(self, tower: Tower) -> TowerOnDemand:
        """Raises UnsupportedInput for a tower that is not served."""
        if tower not in self._towers:
            raise UnsupportedInput(f"no {tower} tower is served here: {', '.join(self._towers)} only")
        return self._towers[tower]


def _vocabulary(
    directory: Path, manifest: Manifest, artifact: Artifact | None, checksums: ChecksumCache
) -> Vocabulary | None:
    if artifact is None or TOKEN_EMBEDDINGS not in manifest.text.inputs:
        return None
    if artifact.vocabulary is None:
        raise ArtifactMissing(f"{directory}: the text artifact names no vocabulary; run the export again")
    checksums.verify(directory, artifact.vocabulary.file)
    return Vocabulary.load(directory, artifact.vocabulary)
