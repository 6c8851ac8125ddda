"""`GET /metrics`."""

from __future__ import annotations

import falcon

from siglip_edge.server.observability.metrics import CONTENT_TYPE, Metrics


class MetricsText:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        resp.content_type = CONTENT_TYPE
        resp.data = self._metrics.render()
