"""A loaded model directory: towers, preprocessing, shortening. `open_model` returns an `EmbeddingModel`."""

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
from siglip_edge.runtime.images.patch_limit import patch_limit
from siglip_edge.runtime.rows import Row, TextRow, stack
from siglip_edge.runtime.scoring import l2_normalize
from siglip_edge.runtime.shortening import Shortening, load_shortening
from siglip_edge.runtime.text.token_ids import TOKEN_EMBEDDINGS, padded, text_row
from siglip_edge.runtime.text.tokenizer import Tokenizer, load_tokenizer
from siglip_edge.runtime.text.vocabulary import Vocabulary, graph_inputs

if TYPE_CHECKING:
    from PIL import Image

    from siglip_edge.runtime.images.picture import Picture

Floats = NDArray[np.float32]

_MOST_TOKENS = 1 << 20
"""More tokens than any vocabulary has, for graphs that hold their vocabulary and do not tell its size."""


class EmbeddingModel:
    """The towers of one embedding space. Thread-safe, because onnxruntime sessions and tokenizers are thread-safe."""

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
        """`vocabulary` and `tokenizer` belong to the text tower; None when no text tower is served."""
        self.manifest = manifest
        self.plan = plan
        self._towers = towers
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._shortening = shortening
        self.loading: Future[None] = Future()
        """Completes when every tower that loads at start-up is loaded and tested; raises if a tower failed."""
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
        """Load `towers` with the planned artifacts, after verifying each file's checksum.

        No self-test runs here: servers and commands use `open_model`, which tests. `lazily`: each tower is loaded by
        its first run. `cache`: directory that keeps packed graphs and verified checksums between starts; None: they
        are not kept. Raises ModelError or ProviderUnavailable.
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
        """Load every tower that is not loaded, in parallel. Raises ModelError or ProviderUnavailable."""
        with ThreadPoolExecutor(len(self._towers)) as pool:  # onnxruntime releases the interpreter's lock meanwhile
            list(pool.map(TowerOnDemand.load, self._towers.values()))

    def load_text_first(self, failed: Callable[[], object] = lambda: None) -> None:
        """Load the text tower, then the vision tower in a thread. `loading` completes when that thread ends.

        Runs of the vision tower wait until it is loaded. Texts are answered earlier than if both towers loaded in
        parallel, and images no later (docs/decisions/text-tower-first.md). A model with only one tower loads it before
        this returns. `failed` is called when the thread cannot load its tower, before `loading` raises.
        Raises like `load_towers`.
        """
        first, *others = sorted(self._towers, key=(Tower.TEXT, Tower.VISION).index)
        self._towers[first].load()
        if others:
            pool = ThreadPoolExecutor(1, thread_name_prefix="load")  # joined at exit, so onnxruntime is not cut off
            self.loading = pool.submit(self._load_late, failed)
            pool.shutdown(wait=False)

    def _load_late(self, failed: Callable[[], object]) -> None:
        try:
            self.load_towers()
        except BaseException:
            failed()
            raise

    def load_tower(self, tower: Tower) -> None:
        """Load `tower` now instead of in its next run, unless it is loaded. Raises like `load_towers`."""
        self._tower(tower).load()

    def test_loads(self, test: Callable[[Tower], object]) -> None:
        """From now on, call `test(tower)` after each load of a tower, before the tower runs any other rows.

        When the test raises, the load fails with the same exception; the next run loads and tests the tower again.
        """
        for tower, on_demand in self._towers.items():
            on_demand.test = partial(test, tower)

    def rest(self, tower: Tower) -> None:
        """Return the buffers that a tower keeps between runs to the system; its weights stay in memory."""
        self._tower(tower).rest()
        if tower is Tower.TEXT and self._tokenizer is not None:
            self._tokenizer.rest()

    def unload(self, tower: Tower) -> bool:
        """Return a tower's memory to the system; its next run loads it again. -> whether the tower was loaded."""
        return self._tower(tower).unload()

    # -- rows ----------------------------------------------------------------------------------------------------------

    def prepare_image(self, image: Image.Image | Picture, max_patches: int | None = None) -> Row:
        """A decoded picture, or any Pillow image -> one row of the vision tower. Raises InvalidInput.

        `max_patches`: as in `patch_limit`.
        """
        from siglip_edge.runtime.images.pixels import image_row  # noqa: PLC0415 - a text-only server never loads Pillow

        self._tower(Tower.VISION)
        return image_row(image, self.manifest.vision, patch_limit(self.manifest, max_patches))

    def prepare_text(self, text: str) -> TextRow:
        """Any text -> one row of the text tower. Raises UnsupportedInput when no text tower is served."""
        self._tower(Tower.TEXT)
        assert self._tokenizer is not None
        return text_row(text, self._tokenizer, self.manifest.text)

    def prepare_token_ids(self, ids: Sequence[int]) -> TextRow:
        """Token ids of this model, prefix and suffix included -> one row of the text tower. Raises UnsupportedInput."""
        self._tower(Tower.TEXT)
        most = self._vocabulary.rows if self._vocabulary else _MOST_TOKENS
        if not all(0 <= token < most for token in ids):
            raise UnsupportedInput(f"token ids must be those of this model, from 0 to {most - 1}")
        return padded(ids, self.manifest.text)

    def run(self, tower: Tower, rows: Sequence[Row], *, crowded: bool = False) -> Floats:
        """Rows of one tower -> embeddings, (n, d) float32 of unit length. A row's bits do not depend on other rows.

        Rows share runs as the plan allows. `crowded`: the planned number of runs is under way, so this run uses its
        share of the threads only. Raises UnsupportedInput when the tower is not served.
        """
        embeddings = np.empty((len(rows), self.manifest.dimensions), np.float32)
        for positions in batches(rows, self.plan.batch_limit(tower)):
            batch = graph_inputs(stack([rows[position] for position in positions]), self._vocabulary)
            embeddings[positions] = l2_normalize(self._tower(tower).run(batch, crowded=crowded))
        return embeddings

    def embed_images(self, images: Sequence[Image.Image | Picture]) -> Floats:
        """Images -> (n, d) float32 of unit length. For scripts and the exporter; the server calls `run` by batches."""
        return self.run(Tower.VISION, [self.prepare_image(image) for image in images])

    def embed_texts(self, texts: Sequence[str]) -> Floats:
        """Texts -> (n, d) float32 of unit length. No template and no prompt is applied."""
        return self.run(Tower.TEXT, [self.prepare_text(text).row for text in texts])

    # -- vectors -------------------------------------------------------------------------------------------------------

    def shorten(self, embeddings: Floats, dimensions: int) -> Floats:
        """(n, d) float32 of unit length -> (n, dimensions) float32 of unit length.

        The model's own length d returns `embeddings` unchanged, bit for bit. Raises UnsupportedInput (param
        `dimensions`) for a length that this model does not offer.
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
