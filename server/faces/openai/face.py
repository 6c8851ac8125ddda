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
from siglip_edge.server.faces.route import PICTURE, Face, Route, Tag, embedding_route
from siglip_edge.server.faces.service import Service

_EMBEDDINGS = Tag("embeddings", "Vectors of texts and images: OpenAI's API, for images too.")
_MODELS = Tag("models", "The served models, as OpenAI lists them.")


def openai(service: Service) -> Face:
    embeddings, models = Embeddings(service), ModelCollection(service.models)
    return Face(
        name="openai",
        tag=_EMBEDDINGS,
        render_error=render_error,
        error=ErrorAnswer,
        routes=(
            embedding_route(
                "/v1/embeddings",
                embeddings.on_post,
                "Embed texts and images.",
                EmbeddingsRequest,
                EmbeddingsAnswer,
                name="create_embeddings",
                example={"input": ["a red heart", PICTURE]},
            ),
            embedding_route(
                "/embeddings",
                embeddings.on_post,
                "Embed texts and images, for clients whose base URL has no /v1.",
                EmbeddingsRequest,
                EmbeddingsAnswer,
                name="create_embeddings_without_v1",
                example={"input": "a red heart", "encoding_format": "base64"},
            ),
            embedding_route(
                "/v1/embeddings/image",
                embeddings.on_post_image,
                "Embed uploaded images.",
                EmbeddingsForm,
                EmbeddingsAnswer,
                name="create_embeddings_of_files",
                example={"input": ["a red heart"]},
                is_form=True,
            ),
            Route(
                "GET",
                "/v1/models",
                models.on_get,
                "The served models.",
                name="list_models",
                tag=_MODELS,
                answer=ModelList,
            ),
            Route(
                "GET",
                "/v1/models/{name}",
                models.on_get_one,
                "One served model.",
                name="get_model",
                tag=_MODELS,
                answer=ModelCard,
                errors=(404,),
            ),
        ),
    )
