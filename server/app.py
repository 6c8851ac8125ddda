"""The composition root: this module constructs every part of the server, and no other module does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import falcon

from siglip_edge.runtime.machine.cpu import CpuBudget, read_cpu_budget
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.config.sizing import places
from siglip_edge.server.embedding.preparation import Model
from siglip_edge.server.faces import table
from siglip_edge.server.faces.openapi import document
from siglip_edge.server.faces.operations.docs import ASSETS
from siglip_edge.server.faces.operations.face import operations
from siglip_edge.server.faces.route import Face
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
from siglip_edge.server.inputs.image_sources import ImageSources
from siglip_edge.server.inputs.input_reader import InputReader
from siglip_edge.server.models.assembly import Assembly
from siglip_edge.server.models.loading import plan_served
from siglip_edge.server.models.registry import Models
from siglip_edge.server.models.served_model import OnFailure, ServedModel
from siglip_edge.server.observability.metrics import Metrics

App = falcon.App[falcon.Request, falcon.Response]


def create_app(
    settings: Settings,
    model: Model | None = None,
    *,
    served: Sequence[ServedModel] = (),
    is_stopping: Callable[[], bool] = lambda: False,
    on_failure: OnFailure = lambda message: None,  # noqa: ARG005
) -> App:
    """-> the WSGI app. Raises ModelError or ProviderUnavailable for errors that are known before a model loads.

    `model`: a model in memory, which is served alone. None: the models of the settings, loaded in the background.
    `served`: the models of the settings, if the default model loads already.
    `on_failure(sentence)`: called when another model of the settings cannot be loaded at the start.
    `is_stopping`: whether the server is shutting down, for the readiness probe.
    """
    cpu, metrics = read_cpu_budget(), Metrics()
    assembly = Assembly(settings, cpu, metrics)
    if model is not None:
        served = [ServedModel.ready(model, assembly.embedder, settings.text_template, settings.max_patches)]
    models = Models(served or plan_served(settings, cpu), preload=settings.preload == "all", is_stopping=is_stopping)
    faces, router = _faces(settings, cpu, models, metrics), Router()
    app = falcon.App(middleware=_middleware(settings, models, metrics, faces, router), router=router)
    app.req_options.strip_url_path_trailing_slash = True
    errors.install(app, table.renderer_of(faces))
    for path, endpoint in table.endpoints(faces, settings.max_body_bytes).items():
        app.add_route(path, endpoint)
    app.add_static_route("/docs/assets", ASSETS)
    models.start(partial(assembly.embedder, serving=models.serving, naflex=models.naflex), on_failure)
    return app


def _middleware(
    settings: Settings, models: Models, metrics: Metrics, faces: Sequence[Face], router: Router
) -> list[Any]:
    """-> the middleware, the outermost first: a refused request gets its id, its headers and a line in the log too."""
    space = models.default.manifest.space_id
    chain: list[Any] = [
        RequestContextMiddleware(settings.request_timeout_s, space, router.face_of, metrics.observe_request)
    ]
    if origins := settings.cors_allow_origins:
        allowed = "*" if "*" in origins else origins
        chain.append(falcon.CORSMiddleware(allow_origins=allowed, expose_headers=EXPOSED_HEADERS))
    if keys := settings.keys:
        chain.append(KeyMiddleware(keys, table.open_paths(faces)))
    chain.append(AdmissionMiddleware(places(settings), models.backlog_s))
    return chain


def _faces(settings: Settings, cpu: CpuBudget, models: Models, metrics: Metrics) -> list[Face]:
    """-> the faces that FACES names, and the operations, whose OpenAPI document describes all faces."""
    service = Service(models, _reader(settings), settings.max_body_bytes)
    has_keys = bool(settings.keys)
    faces = [make(service) for name, make in table.FACES.items() if name in settings.faces]

    def describe() -> dict[str, Any]:
        return document(faces, model=models.default.name, has_keys=has_keys)

    faces.append(operations(models, settings, cpu, metrics, describe))
    return faces


def _reader(settings: Settings) -> InputReader:
    return InputReader(
        images=ImageSources(
            limits=ImageLimits(settings.max_image_bytes),
            root=settings.image_root,
            fetch=_fetcher(settings) if settings.allow_image_urls else None,
        ),
        max_inputs=settings.max_batch_size,
        max_text_chars=settings.max_text_chars,
        accept_token_ids=settings.accept_token_ids,
    )


def _fetcher(settings: Settings) -> Callable[[str], bytes]:
    from siglip_edge.server.inputs.urls import ImageFetcher  # noqa: PLC0415 - an HTTP client, only where it is allowed

    return ImageFetcher(
        max_bytes=settings.max_image_bytes,
        hosts=settings.image_url_hosts,
        timeout_s=min(10.0, settings.request_timeout_s),
    )
