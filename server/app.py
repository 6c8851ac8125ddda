"""The composition root: every part of the server is constructed here, and nowhere else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import falcon

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.runtime.errors import ModelError, NotReady, ProviderUnavailable
from siglip_edge.runtime.machine.cpu import CpuBudget, read_cpu_budget
from siglip_edge.runtime.model import EmbeddingModel, Floats, Row
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import concurrent_batches, rows_per_batch
from siglip_edge.server.embedding.cache import EmbeddingCache
from siglip_edge.server.embedding.embedder import Embedder, Lane
from siglip_edge.server.embedding.preparation import Model, Preparation
from siglip_edge.server.faces.native.classify import Classify
from siglip_edge.server.faces.native.evaluation import Evaluate
from siglip_edge.server.faces.native.rank import Rank
from siglip_edge.server.faces.openai.embeddings import Embeddings
from siglip_edge.server.faces.openai.models import ModelCollection
from siglip_edge.server.faces.operations.docs import ASSETS, Docs
from siglip_edge.server.faces.operations.health import Health
from siglip_edge.server.faces.operations.metrics import MetricsText
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http import errors
from siglip_edge.server.http.middleware import (
    EXPOSED_HEADERS,
    AdmissionMiddleware,
    KeyMiddleware,
    RequestContextMiddleware,
)
from siglip_edge.server.http.router import Router
from siglip_edge.server.inputs.image_bytes import ImageLimits
from siglip_edge.server.inputs.input_reader import InputReader
from siglip_edge.server.models.idle import REST_S, IdleWatch, watch_for_unloading
from siglip_edge.server.models.loading import Opening, plan_openings
from siglip_edge.server.models.registry import Models, ServedModel
from siglip_edge.server.models.warmup import warm_up
from siglip_edge.server.observability.metrics import Metrics

if TYPE_CHECKING:
    from siglip_edge.server.inputs.decoding import Decoded

logger = logging.getLogger("siglip_edge")

_OPEN_PATHS = ("/health", "/docs", "/openapi.json")
"""Answered without a key: probes have none, and the documentation holds no secret."""

_SPARE_THREADS = 2
"""Threads that no embedding request may hold, so that probes are answered under any load."""

App = falcon.App[falcon.Request, falcon.Response]


def create_app(
    settings: Settings,
    model: Model | None = None,
    *,
    openings: Sequence[Opening] = (),
    load_wait_s: float = 0.0,
    on_load_failure: Callable[[str], None] = lambda message: None,  # noqa: ARG005
    on_late_failure: Callable[[], None] = lambda: None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> App:
    """The WSGI app. With `model` it serves that one, ready; else those of the settings, loading in the background.

    `openings`: those of the settings, where they were begun already. `load_wait_s`: how long to wait here until the
    default model answers. `on_late_failure`: called when it does, and then a tower that came later is not right here;
    another process, which tests everything first, would find another plan. `is_stopping`: asked by the readiness probe.
    Raises ModelError or ProviderUnavailable for what can be known before loading.
    """
    parts = _Parts(settings, read_cpu_budget(), Metrics())
    if model is not None:
        served = [parts.ready(model)]
    else:
        served = [parts.opened(one) for one in openings or plan_openings(settings, parts.cpu)]
    models = Models(served, on_failure=on_load_failure, on_late_failure=on_late_failure, is_stopping=is_stopping)
    app = falcon.App(middleware=_middleware(settings, models, parts.metrics), router=Router())
    app.req_options.strip_url_path_trailing_slash = True
    errors.install(app)
    _add_routes(app, parts, models)
    if model is None:
        models.start(load_wait_s)
    return app


def _middleware(settings: Settings, models: Models, metrics: Metrics) -> list[Any]:
    """Outermost first: whatever is refused further in still gets its id, its headers and its line in the log."""
    space = models.default.manifest.space_id
    chain: list[Any] = [RequestContextMiddleware(settings.request_timeout_s, space, metrics.observe_request)]
    if origins := settings.cors_allow_origins:
        allowed = "*" if "*" in origins else origins
        chain.append(falcon.CORSMiddleware(allow_origins=allowed, expose_headers=EXPOSED_HEADERS))
    if keys := settings.keys:
        chain.append(KeyMiddleware(keys, _OPEN_PATHS if settings.protect_metrics else (*_OPEN_PATHS, "/metrics")))
    chain.append(AdmissionMiddleware(settings.threads - _SPARE_THREADS, models.backlog_s))
    return chain


def _add_routes(app: App, parts: _Parts, models: Models) -> None:
    routes = [*_routes(parts, models)]
    docs = Docs([path for path, _, _ in routes] + ["/openapi.json", "/docs"], models.default.name)
    routes += [("/openapi.json", docs, "document"), ("/docs", docs, None), ("/docs/start.js", docs, "start")]
    for path, resource, suffix in routes:
        app.add_route(path, resource, suffix=suffix)
    app.add_static_route("/docs/assets", ASSETS)


def _routes(parts: _Parts, models: Models) -> Iterator[tuple[str, object, str | None]]:
    """Path, resource, and suffix of its responders."""
    service = Service(models, parts.reader(), parts.settings.max_body_bytes)
    embeddings = Embeddings(service)
    yield "/v1/embeddings", embeddings, None
    yield "/embeddings", embeddings, None
    yield "/v1/embeddings/image", embeddings, "image"
    yield "/v1/rank", Rank(service), None
    classify = Classify(service)
    yield "/v1/classify", classify, None
    yield "/v1/classify/image", classify, "image"
    evaluation = Evaluate(service)
    yield "/evaluator/v1/evaluation/single", evaluation, "single"
    yield "/evaluator/v1/evaluation/batch", evaluation, "batch"
    collection = ModelCollection(models)
    yield "/v1/models", collection, None
    yield "/v1/models/{name}", collection, "one"
    health = Health(models, parts.settings, parts.cpu)
    yield "/health", health, None
    yield "/health/live", health, "live"
    yield "/health/ready", health, "ready"
    if parts.settings.enable_metrics:
        yield "/metrics", MetricsText(parts.metrics), None


@dataclass(frozen=True)
class _Parts:
    """What everything else is made from."""

    settings: Settings
    cpu: CpuBudget
    metrics: Metrics

    @property
    def limits(self) -> ImageLimits:
        return ImageLimits(self.settings.max_image_bytes, self.settings.max_image_pixels)

    def reader(self) -> InputReader:
        return InputReader(
            limits=self.limits,
            max_inputs=self.settings.max_batch_size,
            max_text_chars=self.settings.max_text_chars,
            accept_token_ids=self.settings.accept_token_ids,
            image_root=self.settings.image_root,
            fetch=self._fetcher() if self.settings.allow_image_urls else None,
        )

    def _fetcher(self) -> Callable[[str], bytes]:
        from siglip_edge.server.inputs.urls import ImageFetcher  # noqa: PLC0415 - an HTTP client is in memory only where it is allowed

        return ImageFetcher(
            max_bytes=self.settings.max_image_bytes,
            hosts=tuple(host.lower() for host in self.settings.image_url_hosts),
            timeout_s=min(10.0, self.settings.request_timeout_s),
        )

    def ready(self, model: Model) -> ServedModel:
        """A model that is there already."""
        embedder = self._embedder(model.manifest.name, model)
        self.metrics.describe(embedder.name, model)
        return ServedModel(model.manifest.name, model.manifest, model.plan, lambda: embedder, embedder)

    def opened(self, opening: Opening) -> ServedModel:
        """A model directory; loaded when the default's turn comes, the others' when they are first asked for."""

        def load() -> Embedder:
            model = opening.model()
            if self.settings.enable_warmup and not self._is_warm(model):
                warm_up(model, steps=self.settings.warmup_steps, rows=self.settings.warmup_batch_size)
            embedder = self._embedder(opening.name, model)
            self.metrics.describe(opening.name, model)
            model.loading.add_done_callback(lambda _: self._watch(model, embedder.lanes))
            return embedder

        return ServedModel(opening.name, opening.manifest, opening.candidates[0], load, since=opening.since)

    def _watch(self, model: EmbeddingModel, lanes: Mapping[Tower, Lane]) -> None:
        """From when it is loaded on, what nobody uses of its memory goes back."""
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
        def decode(data: bytes) -> Decoded:
            from siglip_edge.server.inputs import decoding  # noqa: PLC0415 - Pillow, which texts alone do not need

            return decoding.decode(data, self.limits, target=model.manifest.image.size)

        return Embedder(
            name,
            model,
            self._lanes(model),
            EmbeddingCache(self.settings.embedding_cache_bytes, self.metrics.count_lookup),
            Preparation(model, decode, max_decoding=self.cpu.cores),
            wait_for_room=self.settings.queue_overflow_action == "wait",
        )

    def _lanes(self, model: Model) -> dict[Tower, Lane]:
        """A lane a tower; the text lane goes first, because a pile of images would make a search box wait."""
        turn = threading.BoundedSemaphore(concurrent_batches(self.settings, model.plan))

        def lane(tower: Tower, gives_way_to: Lane | None = None) -> Lane:
            def run(rows: list[Row], *, crowded: bool = False) -> list[Floats]:
                try:
                    model.load_tower(tower)  # takes no turn: the other tower's runs go on meanwhile
                    with turn:
                        # Copied: a kept vector must not keep its whole batch in memory.
                        return [vector.copy() for vector in model.run(tower, rows, crowded=crowded)]
                except (ModelError, ProviderUnavailable) as error:  # of a load at first use, or after idling
                    logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
                    raise NotReady(f"the {tower} tower could not be loaded; the server's log says why") from None

            return Lane(
                run,
                name=tower,
                max_batch=rows_per_batch(self.settings, model.plan, tower),
                max_rows=self.settings.max_queue_size,
                wait_s=self.settings.batch_wait_time_ms / 1000,
                runs_at_once=model.plan.runs_at_once,
                crowded_run=partial(run, crowded=True),
                gives_way_to=gives_way_to,
                observe=partial(self.metrics.observe_batch, tower),
            )

        lanes: dict[Tower, Lane] = {}
        for tower in (Tower.TEXT, Tower.VISION):
            if tower in model.towers:
                lanes[tower] = lane(tower, gives_way_to=lanes.get(Tower.TEXT))
        return lanes
