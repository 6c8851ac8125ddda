"""A model and the settings -> a served model: its lanes, its cache, its preparation, its warm-up, its idle watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.runtime.model import EmbeddingModel
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import concurrent_batches, rows_per_batch
from siglip_edge.server.embedding.cache import EmbeddingCache
from siglip_edge.server.embedding.embedder import Embedder, Lane
from siglip_edge.server.embedding.lanes import LaneLimits, make_lanes
from siglip_edge.server.embedding.preparation import Model, Preparation
from siglip_edge.server.inputs.image_bytes import ImageLimits
from siglip_edge.server.models.idle import REST_S, IdleWatch, watch_for_unloading
from siglip_edge.server.models.loading import Opening
from siglip_edge.server.models.registry import ServedModel
from siglip_edge.server.models.warmup import warm_up
from siglip_edge.server.observability.metrics import Metrics

if TYPE_CHECKING:
    from siglip_edge.server.inputs.decoding import Decoded


@dataclass(frozen=True)
class Assembly:
    """Makes the served models of one process."""

    settings: Settings
    cpu: CpuBudget
    metrics: Metrics

    def ready(self, model: Model) -> ServedModel:
        """A model that is in memory already."""
        embedder = self._embedder(model.manifest.name, model)
        return ServedModel(model.manifest.name, model.manifest, model.plan, lambda: embedder, embedder)

    def opened(self, opening: Opening) -> ServedModel:
        """A model directory. The default model loads at the start, another model with its first request."""

        def load() -> Embedder:
            model = opening.model()
            if self.settings.enable_warmup and not self._is_warm(model):
                warm_up(model, steps=self.settings.warmup_steps, rows=self.settings.warmup_batch_size)
            embedder = self._embedder(opening.name, model)
            model.loading.add_done_callback(lambda _: self._watch(model, embedder.lanes))
            return embedder

        return ServedModel(opening.name, opening.manifest, opening.candidates[0], load, since=opening.since)

    def _watch(self, model: EmbeddingModel, lanes: Mapping[Tower, Lane]) -> None:
        """Once it is loaded, memory that nobody uses goes back to the system."""
        IdleWatch(model.rest, lanes, REST_S).start()
        if self.settings.idle_unload_s:
            watch_for_unloading(model, lanes, self.settings.idle_unload_s).start()

    def _is_warm(self, model: Model) -> bool:
        """Whether the self-test, which ran every tower, did all that was asked for.

        A tower that is loaded at its first use is warmed up by the test of that load.
        """
        tested = (
            model.manifest.golden is not None and self.settings.warmup_steps == self.settings.warmup_batch_size == 1
        )
        return tested or self.settings.load_towers == "first-use"

    def _embedder(self, name: str, model: Model) -> Embedder:
        self.metrics.describe(name, model)
        return Embedder(
            name,
            model,
            make_lanes(model, self._limits(model), self.metrics.observe_batch),
            EmbeddingCache(self.settings.embedding_cache_bytes, self.metrics.count_lookup),
            self._preparation(model),
            wait_for_room=self.settings.queue_overflow_action == "wait",
        )

    def _limits(self, model: Model) -> LaneLimits:
        return LaneLimits(
            rows_per_batch={tower: rows_per_batch(self.settings, model.plan, tower) for tower in model.towers},
            queued_rows=self.settings.max_queue_size,
            wait_s=self.settings.batch_wait_time_ms / 1000,
            runs_at_once=concurrent_batches(self.settings, model.plan),
        )

    def _preparation(self, model: Model) -> Preparation:
        limits = ImageLimits(self.settings.max_image_bytes, self.settings.max_image_pixels)

        def decode(data: bytes) -> Decoded:
            from siglip_edge.server.inputs import decoding  # noqa: PLC0415 - Pillow, which texts alone do not need

            return decoding.decode(data, limits, target=model.manifest.image.size)

        return Preparation(model, decode, max_decoding=self.cpu.cores)
