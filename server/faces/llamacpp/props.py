"""`GET /props`: facts that a client of llama.cpp's server reads before it sends an image."""

from __future__ import annotations

import importlib.metadata
from functools import cache

import falcon

from siglip_edge.runtime.artifacts.manifest import Tower
from siglip_edge.server.faces.llamacpp.schemas import MEDIA_MARKER, GenerationSettings, Modalities, Props
from siglip_edge.server.faces.service import Service
from siglip_edge.server.http import json
from siglip_edge.server.models.served_model import ServedModel


class PropsResource:
    def __init__(self, service: Service) -> None:
        self._service = service

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Of the model that `?model=` names, else of the default model. Raises ModelNotFound."""
        resp.data = json.render(_props(self._service.models.find(req.get_param("model"))))


def _props(model: ServedModel) -> Props:
    text = model.manifest.towers.text if Tower.TEXT in model.towers else None
    return Props(
        default_generation_settings=GenerationSettings(n_ctx=text.length if text else 0),
        total_slots=model.plan.runs_at_once,
        model_path=model.name,
        modalities=Modalities(vision=Tower.VISION in model.towers, audio=False),
        media_marker=MEDIA_MARKER,
        chat_template="",
        chat_template_caps={},
        build_info=_build(),
        is_sleeping=False,
    )


@cache
def _build() -> str:
    return f"siglip-edge {importlib.metadata.version('siglip-edge')}"
