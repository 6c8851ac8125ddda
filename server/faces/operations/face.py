"""Health, metrics and the API's documentation: always on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from siglip_edge.runtime.machine.cpu import CpuBudget
from siglip_edge.server.config.settings import Settings
from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.openai.schemas import ErrorAnswer
from siglip_edge.server.faces.operations.docs import Docs
from siglip_edge.server.faces.operations.health import Health
from siglip_edge.server.faces.operations.metrics import MetricsText
from siglip_edge.server.faces.operations.root import Root
from siglip_edge.server.faces.operations.schemas import HealthAnswer, ProbeAnswer, RootAnswer
from siglip_edge.server.faces.route import Face, Route, Tag
from siglip_edge.server.http.router import Responder
from siglip_edge.server.models.registry import Models
from siglip_edge.server.observability.metrics import Metrics


def operations(
    models: Models, settings: Settings, cpu: CpuBudget, metrics: Metrics, document: Callable[[], dict[str, Any]]
) -> Face:
    """`document` makes the OpenAPI document."""
    root, health, docs = Root(models), Health(models, settings, cpu), Docs(document)
    routes = [_open("/", root.on_get, "Name, version and links.", name="get_root", answer=RootAnswer)]
    routes += [*_health(health), *_documentation(docs)]
    if settings.enable_metrics:
        routes += _metrics(MetricsText(metrics), is_open=not settings.protect_metrics)
    return Face(
        name="operations",
        tag=Tag("operations", "Health, metrics and this documentation."),
        render_error=render_error,
        error=ErrorAnswer,
        routes=tuple(routes),
    )


def _health(health: Health) -> list[Route]:
    """Open: probes have no key."""
    ready = "The default model is loaded and finishes its work."
    return [
        _open(
            "/health",
            health.on_get,
            "State, plan and measured rates.",
            name="get_health",
            answer=HealthAnswer,
            errors=(503,),
        ),
        _open("/health/live", health.on_get_live, "The process answers.", name="check_alive", answer=ProbeAnswer),
        _open("/health/ready", health.on_get_ready, ready, name="check_ready", answer=ProbeAnswer, errors=(503,)),
    ]


def _documentation(docs: Docs) -> list[Route]:
    """Open: it holds no secret."""
    page, script = "This document as an interactive page.", "The page's script."
    return [
        _open("/openapi.json", docs.on_get_document, "This document.", name="get_openapi_document", answer=dict),
        _open("/docs", docs.on_get, page, name="get_docs_page", media="text/html"),
        _open("/evaluator/docs", docs.on_get, page, name="get_evaluator_docs_page", media="text/html"),
        _open("/docs/start.js", docs.on_get_start, script, name="get_docs_script", is_documented=False),
    ]


def _open(path: str, responder: Responder, summary: str, **more: Any) -> Route:
    return Route("GET", path, responder, summary, is_open=True, **more)


def _metrics(metrics: MetricsText, *, is_open: bool) -> list[Route]:
    """The second path is Vision-Language Similarity Service's."""
    paths = {"/metrics": "get_metrics", "/evaluator/metrics": "get_evaluator_metrics"}
    meaning = "Prometheus metrics of all workers."
    return [
        Route("GET", path, metrics.on_get, meaning, name=name, media="text/plain", is_open=is_open)
        for path, name in paths.items()
    ]
