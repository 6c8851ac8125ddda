"""Makes the embedder of an opened model from the settings: lanes, cache, preparation, warm-up, idle watches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from siglip_edge.runtime.artifacts.manifest import Patches, Tower
from siglip_edge.runtime.artifacts.space_id import templated
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.batching.run_turns import RunTurns
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import concurrent_batches
from siglip_edge.server.embedding.cache import EmbeddingCache
from siglip_edge.server.embedding.embedder import Embedder, Lane
from siglip_edge.server.embedding.lanes import LaneLimits, make_lanes
from siglip_edge.server.embedding.preparation import Model, Preparation
from siglip_edge.server.models.idle import REST_S, IdleWatch, watch_for_unloading
from siglip_edge.server.models.warmup import warm_up
from siglip_edge.server.observability.metrics import Metrics

if TYPE_CHECKING:
    from siglip_edge.runtime.images.picture import Picture


logger = logging.getLogger("siglip_edge")

Serving = Callable[[Tower], Sequence[str]]


@dataclass(frozen=True)
class Assembly:
    """Makes the embedders of one process."""

    settings: Settings
    cpu: CpuBudget
    metrics: Metrics
    turns: RunTurns = field(default_factory=RunTurns)
    """The turns of all models of this process."""

    def embedder(
        self,
        name: str,
        model: Model,
        serving: Serving = lambda tower: (),  # noqa: ARG005
        naflex: Callable[[], Sequence[str]] = tuple,
    ) -> Embedder:
        """-> the embedder of an opened model, after its warm-up. From then on, idle towers give memory back.

        `serving(tower)`: names of the models of this server that have the tower.
        `naflex()`: names of those that take `max_patches`.
        """
        if self.settings.enable_warmup and not self._is_warm(model):
            warm_up(model, steps=self.settings.warmup_steps, rows=self.settings.warmup_batch_size)
        if self.settings.enable_warmup:
            logger.info("warmup_ok: model %s", name, extra={"event": "warmup_ok", "model": name})
        embedder = self._embedder(name, model, serving, naflex)
        if isinstance(model, EmbeddingModel):
            model.loading.add_done_callback(lambda _: self._watch(model, embedder.lanes))
        return embedder

    def _watch(self, model: EmbeddingModel, lanes: Mapping[Tower, Lane]) -> None:
        IdleWatch(model.rest, lanes, REST_S).start()
        if self.settings.idle_unload_s:
            watch_for_unloading(model, lanes, self.settings.idle_unload_s).start()

    def _is_warm(self, model: Model) -> bool:
        """Whether a self-test does the work of the warm-up: it runs every tower once, with one row.

        A tower that loads at its first use is tested, and so warmed up, by that load.
        """
        tested = (
            model.manifest.golden is not None and self.settings.warmup_steps == self.settings.warmup_batch_size == 1
        )
        return tested or self.settings.load_towers == "first-use"

    def _embedder(self, name: str, model: Model, serving: Serving, naflex: Callable[[], Sequence[str]]) -> Embedder:
        template = self._template_of(name)
        metrics = self.metrics.of_model(name, model, templated(model.manifest.space_id, template))
        return Embedder(
            name,
            model,
            make_lanes(name, model, self._limits(model), metrics.observe_batch),
            EmbeddingCache(
                self.settings.embedding_cache_bytes, self.settings.embedding_cache_size, count=metrics.count_lookup
            ),
            self._preparation(model),
            wait_for_room=self.settings.queue_overflow_action == "wait",
            text_template=template,
            serving=serving,
            max_patches=self._max_patches_of(name, model),
            naflex=naflex,
        )

    def _template_of(self, name: str) -> str | None:
        listed = {model.name: model.text_template for model in self.settings.listed_models}
        return listed.get(name, self.settings.text_template)

    def _max_patches_of(self, name: str, model: Model) -> int | None:
        listed = {model.name: model.max_patches for model in self.settings.listed_models}
        vision = model.manifest.towers.vision
        return listed.get(name, self.settings.max_patches) if vision and isinstance(vision.geometry, Patches) else None

    def _limits(self, model: Model) -> LaneLimits:
        self.turns.allow(concurrent_batches(self.settings, model.plan))
        return LaneLimits(
            queued_rows=self.settings.max_queue_size,
            wait_s=self.settings.batch_wait_time_ms / 1000,
            turns=self.turns,
        )

    def _preparation(self, model: Model) -> Preparation:
        most = self.settings.max_image_pixels

        def decode(data: bytes, max_patches: int | None) -> Picture:
            # Imported with the first image: a server that gets only texts never loads Pillow.
            from siglip_edge.runtime.images import decoding  # noqa: PLC0415
            from siglip_edge.runtime.images.geometry import decoded_size  # noqa: PLC0415

            vision = model.manifest.vision
            target = partial(decoded_size, geometry=vision.geometry, max_patches=max_patches)
            return decoding.decode(data, max_pixels=most, target=target, profiles=vision.color_profiles)

        return Preparation(model, decode, max_decoding=self.cpu.cores)
