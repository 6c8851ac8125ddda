"""`GET /`: what this server is and where to go on."""

from __future__ import annotations

import importlib.metadata

import falcon

from siglip_edge.server.faces.operations.schemas import RootAnswer
from siglip_edge.server.http import json
from siglip_edge.server.models.registry import Models


class Root:
    def __init__(self, models: Models) -> None:
        self._models = models

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        answer = RootAnswer(
            name="siglip-edge",
            version=importlib.metadata.version("siglip-edge"),
            model=self._models.default.name,
            docs="/docs",
            openapi="/openapi.json",
            health="/health",
        )
        resp.data = json.render(answer)
