"""Health, metrics and the API's documentation: always on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import falcon

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
    """`document`: makes the OpenAPI document. Probes have no key, and the documentation holds no secret."""
    health, docs = Health(models, settings, cpu), Docs(document)
    routes = [
        Route(
            method="GET",
            path="/health",
            responder=health.on_get,
            summary="State, plan and measured rates.",
            answer=HealthAnswer,
            is_open=True,
        ),
        Route(
            method="GET",
            path="/health/live",
            responder=health.on_get_live,
            summary="The process answers.",
            answer=ProbeAnswer,
            is_open=True,
        ),
        Route(
            method="GET",
            path="/health/ready",
            responder=health.on_get_ready,
            summary="The default model is loaded and finishes its work.",
            answer=ProbeAnswer,
            errors=(503,),
            is_open=True,
        ),
        Route(
            method="GET",
            path="/openapi.json",
            responder=docs.on_get_document,
            summary="This document.",
            answer=dict,
            is_open=True,
        ),
        Route(
            method="GET",
            path="/docs",
            responder=docs.on_get,
            summary="This document as an interactive page.",
            media=falcon.MEDIA_HTML.partition(";")[0],
            is_open=True,
        ),
        Route(
            method="GET",
            path="/docs/start.js",
            responder=docs.on_get_start,
            summary="The page's script.",
            media=falcon.MEDIA_JS,
            is_open=True,
            is_documented=False,
        ),
    ]
    if settings.enable_metrics:
        metrics_route = Route(
            method="GET",
            path="/metrics",
            responder=MetricsText(metrics).on_get,
            summary="Prometheus metrics of all workers.",
            media="text/plain",
            is_open=not settings.protect_metrics,
        )
        routes.append(metrics_route)
    return Face(
        name="operations",
        summary="Health, metrics and this documentation.",
        render_error=render_error,
        error=ErrorAnswer,
        routes=tuple(routes),
    )
