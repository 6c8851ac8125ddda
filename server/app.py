"""The composition root: every part of the server is constructed here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import falcon

from siglip_edge.runtime.machine.cpu import CpuBudget, read_cpu_budget
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.embedding.preparation import Model
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
from siglip_edge.server.models.assembly import Assembly
from siglip_edge.server.models.loading import Opening, plan_openings
from siglip_edge.server.models.registry import Models
from siglip_edge.server.observability.metrics import Metrics

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
    cpu, metrics = read_cpu_budget(), Metrics()
    assembly = Assembly(settings, cpu, metrics)
    if model is not None:
        served = [assembly.ready(model)]
    else:
        served = [assembly.opened(one) for one in openings or plan_openings(settings, cpu)]
    models = Models(served, on_failure=on_load_failure, on_late_failure=on_late_failure, is_stopping=is_stopping)
    app = falcon.App(middleware=_middleware(settings, models, metrics), router=Router())
    app.req_options.strip_url_path_trailing_slash = True
    errors.install(app)
    _add_routes(app, list(_routes(settings, cpu, models, metrics)), models)
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


def _add_routes(app: App, routes: list[tuple[str, object, str | None]], models: Models) -> None:
    docs = Docs([path for path, _, _ in routes] + ["/openapi.json", "/docs"], models.default.name)
    routes += [("/openapi.json", docs, "document"), ("/docs", docs, None), ("/docs/start.js", docs, "start")]
    for path, resource, suffix in routes:
        app.add_route(path, resource, suffix=suffix)
    app.add_static_route("/docs/assets", ASSETS)


def _routes(
    settings: Settings, cpu: CpuBudget, models: Models, metrics: Metrics
) -> Iterator[tuple[str, object, str | None]]:
    """Path, resource, and suffix of its responders."""
    service = Service(models, _reader(settings), settings.max_body_bytes)
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
    health = Health(models, settings, cpu)
    yield "/health", health, None
    yield "/health/live", health, "live"
    yield "/health/ready", health, "ready"
    if settings.enable_metrics:
        yield "/metrics", MetricsText(metrics), None


def _reader(settings: Settings) -> InputReader:
    return InputReader(
        limits=ImageLimits(settings.max_image_bytes, settings.max_image_pixels),
        max_inputs=settings.max_batch_size,
        max_text_chars=settings.max_text_chars,
        accept_token_ids=settings.accept_token_ids,
        image_root=settings.image_root,
        fetch=_fetcher(settings) if settings.allow_image_urls else None,
    )


def _fetcher(settings: Settings) -> Callable[[str], bytes]:
    from siglip_edge.server.inputs.urls import ImageFetcher  # noqa: PLC0415 - an HTTP client, only where it is allowed

    return ImageFetcher(
        max_bytes=settings.max_image_bytes,
        hosts=tuple(host.lower() for host in settings.image_url_hosts),
        timeout_s=min(10.0, settings.request_timeout_s),
    )
