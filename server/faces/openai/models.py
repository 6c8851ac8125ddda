"""`GET /v1/models` and `GET /v1/models/{id}`."""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from siglip_edge.runtime.artifacts.manifest import Patches, Tower, kind_of
from siglip_edge.server.faces.openai.schemas import ModelCard, ModelList
from siglip_edge.server.http import json
from siglip_edge.server.inputs.schemas import Modality
from siglip_edge.server.models.registry import Models
from siglip_edge.server.models.served_model import ServedModel


class ModelCollection:
    def __init__(self, models: Models) -> None:
        self._models = models

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:  # noqa: ARG002 - falcon's signature
        resp.data = json.render(ModelList(object="list", data=[self._card(model) for model in self._models.all()]))

    def on_get_one(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:  # noqa: ARG002
        resp.data = json.render(self._card(self._models.find(name)))

    def _card(self, model: ServedModel) -> ModelCard:
        return card(model, self._models.names_of(model))


def card(model: ServedModel, aliases: list[str]) -> ModelCard:
    manifest = model.manifest
    default_patches, max_patches = model.patches or (None, None)
    text = manifest.towers.text if Tower.TEXT in model.towers else None
    return ModelCard(
        id=model.name,
        object="model",
        created=model.created,
        owned_by="siglip-edge",
        family=manifest.family,
        dimensions=manifest.dimensions,
        modalities=_modalities(model.towers),
        precision=model.plan.precision,
        space_id=manifest.space_id,
        max_tokens=text.length if text else None,
        image_size=_image_size(model),
        default_patches=default_patches,
        max_patches=max_patches,
        prompts=list(text.prompts) if text else [],
        default_prompt=text.default_prompt if text else None,
        scoring=kind_of(manifest.scoring),
        aliases=aliases,
    )


def _image_size(model: ServedModel) -> int | None:
    if Tower.VISION not in model.towers or isinstance(model.manifest.vision.geometry, Patches):
        return None
    return model.manifest.vision.geometry.size


def _modalities(towers: Sequence[Tower]) -> list[Modality]:
    kinds: dict[Tower, Modality] = {Tower.TEXT: "text", Tower.VISION: "image"}
    return [kind for tower, kind in kinds.items() if tower in towers]
