"""The composition root: every part of the server is constructed here, and nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import falcon

from runtime.cpu import CpuBudget, read_cpu_budget
from runtime.manifest import Manifest, Precision, Tower
from runtime.model import Row, SiglipModel
from runtime.providers import ExecutionPlan, Wishes, plan
from runtime.session import available_providers
from server import errors, images, selftest
from server.cache import EmbeddingCache
from server.capacity import intra_op_threads, rows_per_batch, worker_count
from server.embedding import Embedder, Floats, Lane, Model
from server.images import ImageLimits
from server.inputs import InputReader
from server.middleware import CallMiddleware
from server.models import Models, ServedModel
from server.resources.classify import Classify
from server.resources.embeddings import Embeddings
from server.resources.evaluation import Evaluate
from server.resources.health import Health
from server.resources.models import ModelCollection
from server.resources.rank import Rank
from server.service import Service
from server.settings import Settings

App = falcon.App[falcon.Request, falcon.Response]


def create_app(
    settings: Settings,
    model: Model | None = None,
    *,
    on_load_failure: Callable[[str], None] = lambda message: None,  # noqa: ARG005
) -> App:
    """The WSGI app. With `model` it serves that one, ready; else those of the settings, loading in the background.

    Raises ModelError or ProviderUnavailable for what can be known before loading.
    """
    cpu = read_cpu_budget()
    limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
    served = [_ready(model, settings, cpu, limits)] if model else _from_directories(settings, cpu, limits)
    models = Models(served, on_failure=on_load_failure)
    app = falcon.App(middleware=_middleware(settings, models))
    app.req_options.strip_url_path_trailing_slash = True
    errors.install(app)
    _add_routes(app, settings, models, cpu, limits)
    if model is None:
        models.start()
    return app


def _middleware(settings: Settings, models: Models) -> list[CallMiddleware]:
    return [CallMiddleware(settings.request_timeout_s, models.default.manifest.space_id)]


def _add_routes(app: App, settings: Settings, models: Models, cpu: CpuBudget, limits: ImageLimits) -> None:
    reader = InputReader(
        limits=limits,
        max_inputs=settings.max_batch_size,
        max_text_chars=settings.max_text_chars,
        accept_token_ids=settings.accept_token_ids,
        image_root=settings.image_root,
    )
    service = Service(models, reader, settings.max_body_bytes)
    embeddings = Embeddings(service)
    app.add_route("/v1/embeddings", embeddings)
    app.add_route("/embeddings", embeddings)
    app.add_route("/v1/embeddings/image", embeddings, suffix="image")
    app.add_route("/v1/rank", Rank(service))
    classify = Classify(service)
    app.add_route("/v1/classify", classify)
    app.add_route("/v1/classify/image", classify, suffix="image")
    evaluation = Evaluate(service)
    app.add_route("/evaluator/v1/evaluation/single", evaluation, suffix="single")
    app.add_route("/evaluator/v1/evaluation/batch", evaluation, suffix="batch")
    collection = ModelCollection(models)
    app.add_route("/v1/models", collection)
    app.add_route("/v1/models/{name}", collection, suffix="one")
    health = Health(models, settings, cpu, worker_count(settings, cpu))
    app.add_route("/health", health)
    app.add_route("/health/live", health, suffix="live")
    app.add_route("/health/ready", health, suffix="ready")


def _from_directories(settings: Settings, cpu: CpuBudget, limits: ImageLimits) -> list[ServedModel]:
    return [_loadable(name, path, settings, cpu, limits) for name, path in settings.named_models.items()]


def _loadable(name: str, directory: Path, settings: Settings, cpu: CpuBudget, limits: ImageLimits) -> ServedModel:
    manifest = Manifest.load(directory)
    execution = plan(available_providers(), cpu, manifest, _wishes(settings, cpu))

    def load() -> Embedder:
        model = SiglipModel.load(directory, execution)
        selftest.check(model)
        if settings.enable_warmup:
            selftest.warm_up(model, steps=settings.warmup_steps, rows=settings.warmup_batch_size)
        return _embedder(name, model, settings, cpu, limits)

    return ServedModel(name, manifest, execution, load)


def _ready(model: Model, settings: Settings, cpu: CpuBudget, limits: ImageLimits) -> ServedModel:
    embedder = _embedder(model.manifest.name, model, settings, cpu, limits)
    return ServedModel(model.manifest.name, model.manifest, model.plan, lambda: embedder, embedder)


def _wishes(settings: Settings, cpu: CpuBudget) -> Wishes:
    return Wishes(
        device=settings.device,
        precision=None if settings.precision == "auto" else Precision(settings.precision),
        workers=worker_count(settings, cpu),
        intra_op_threads=intra_op_threads(settings, cpu),
    )


def _embedder(name: str, model: Model, settings: Settings, cpu: CpuBudget, limits: ImageLimits) -> Embedder:
    return Embedder(
        name,
        model,
        _lanes(model, settings, model.plan),
        EmbeddingCache(settings.embedding_cache_bytes),
        lambda data: images.decode(data, limits),
        max_decoding=cpu.cores,
        wait_for_room=settings.queue_overflow_action == "wait",
    )


def _lanes(model: Model, settings: Settings, execution: ExecutionPlan) -> dict[Tower, Lane]:
    """A lane a tower; the text lane goes first, because a pile of images would make a search box wait."""
    turn = threading.BoundedSemaphore(settings.max_concurrent_batches)

    def lane(tower: Tower, gives_way_to: Lane | None = None) -> Lane:
        def run(rows: list[Row]) -> list[Floats]:
            with turn:
                # Copied: a kept vector must not keep its whole batch in memory.
                return [vector.copy() for vector in model.run(tower, rows)]

        return Lane(
            run,
            name=tower,
            max_batch=rows_per_batch(settings, execution),
            max_rows=settings.max_queue_size,
            wait_s=settings.batch_wait_time_ms / 1000,
            gives_way_to=gives_way_to,
        )

    text = lane(Tower.TEXT)
    return {Tower.TEXT: text, Tower.VISION: lane(Tower.VISION, gives_way_to=text)}
