"""`GET /evaluator/health`."""

from __future__ import annotations

import falcon

from siglip_edge.server.faces.similarity.schemas import SimilarityHealth
from siglip_edge.server.http import json
from siglip_edge.server.models.registry import Models


class SimilarityHealthProbe:
    def __init__(self, models: Models) -> None:
        self._models = models

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        self._models.check_ready()
        names = [model.name for model in self._models.all()]
        health = SimilarityHealth(status="available", service="siglip-edge", model_loaded=True, available_configs=names)
        resp.data = json.render(health)
