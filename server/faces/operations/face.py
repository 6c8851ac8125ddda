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
from siglip_edge.server.faces.operations.schemas import HealthAnswer, ProbeAnswer
from siglip_edge.server.faces.route import Face, Route
from siglip_edge.server.models.registry import Models
from siglip_edge.server.observability.metrics import Metrics


def operations(
    models: Models, settings: Settings, cpu: CpuBudget, metrics: Metrics, document: Callable[[], dict[str, Any]]
) -> Face:
    """`document` makes the OpenAPI document."""
    routes = [*_health(Health(models, settings, cpu)), *_documentation(Docs(document))]
    if settings.enable_metrics:
        routes.append(_metrics(MetricsText(metrics), is_open=not settings.protect_metrics))
    return Face(
        name="operations",
        summary="Health, metrics and this documentation.",
        render_error=render_error,
        error=ErrorAnswer,
        routes=tuple(routes),
    )


def _health(health: Health) -> list[Route]:
    """Open: probes have no key."""
    ready = "The default model is loaded and finishes its work."
    return [
        Route("GET", "/health", health.on_get, "State, plan and measured rates.", answer=HealthAnswer, is_open=True),
        Route("GET", "/health/live", health.on_get_live, "The process answers.", answer=ProbeAnswer, is_open=True),
        Route("GET", "/health/ready", health.on_get_ready, ready, answer=ProbeAnswer, errors=(503,), is_open=True),
    ]


def _documentation(docs: Docs) -> list[Route]:
    """Open: it holds no secret."""
    page = "This document as an interactive page."
    script = Route("GET", "/docs/start.js", docs.on_get_start, "The page's script.", is_open=True, is_documented=False)
    return [
        Route("GET", "/openapi.json", docs.on_get_document, "This document.", answer=dict, is_open=True),
        Route("GET", "/docs", docs.on_get, page, media="text/html", is_open=True),
        script,
    ]


def _metrics(metrics: MetricsText, *, is_open: bool) -> Route:
    return Route(
        "GET", "/metrics", metrics.on_get, "Prometheus metrics of all workers.", media="text/plain", is_open=is_open
    )
