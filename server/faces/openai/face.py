"""OpenAI's embeddings and models, as its clients know them."""

from __future__ import annotations

from siglip_edge.server.faces.openai.embeddings import Embeddings
from siglip_edge.server.faces.openai.errors import render_error
from siglip_edge.server.faces.openai.models import ModelCollection
from siglip_edge.server.faces.openai.schemas import (
    EmbeddingsAnswer,
    EmbeddingsForm,
    EmbeddingsRequest,
    ErrorAnswer,
    ModelCard,
    ModelList,
)
from siglip_edge.server.faces.route import PICTURE, Face, Route, embedding_route
from siglip_edge.server.faces.service import Service


def openai(service: Service) -> Face:
    embeddings, models = Embeddings(service), ModelCollection(service.models)
    return Face(
        name="openai",
        summary="OpenAI's API, for images too.",
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            embedding_route(
                "/v1/embeddings",
                embeddings.on_post,
                "Embed texts and images.",
                EmbeddingsRequest,
                EmbeddingsAnswer,
                example={"input": ["a cat on a sofa", PICTURE]},
            ),
            embedding_route(
                "/embeddings",
                embeddings.on_post,
                "Embed texts and images, for clients whose base URL has no /v1.",
                EmbeddingsRequest,
                EmbeddingsAnswer,
                example={"input": "a cat on a sofa", "encoding_format": "base64"},
            ),
            embedding_route(
                "/v1/embeddings/image",
                embeddings.on_post_image,
                "Embed uploaded images.",
                EmbeddingsForm,
                EmbeddingsAnswer,
                example={"input": ["a cat on a sofa"]},
                is_form=True,
            ),
            Route("GET", "/v1/models", models.on_get, "The served models.", answer=ModelList),
            Route("GET", "/v1/models/{name}", models.on_get_one, "One served model.", answer=ModelCard, errors=(404,)),
        ),
    )
